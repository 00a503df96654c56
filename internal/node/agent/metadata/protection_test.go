package metadata

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestProtection(t *testing.T) {
	view := aTask()
	var asked ProtectionAsk
	answer := ProtectionAnswer{Enabled: true, Until: start.Add(time.Hour)}
	s := New(Config{Tasks: one{view: view}, Now: func() time.Time { return start }, Protection: func(_ context.Context, ask ProtectionAsk) (ProtectionAnswer, error) {
		asked = ask
		return answer, nil
	}})
	do := func(method, path, body string) (int, string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.RemoteAddr = "10.0.0.7:1"
		w := httptest.NewRecorder()
		s.Handler(FromTask).ServeHTTP(w, r)
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	path := "/api/" + id + "-web/task-protection/v1/state"
	arn := view.Task.ARN
	code, body := do(http.MethodPut, path, `{"ProtectionEnabled":true,"ExpiresInMinutes":60}`)
	if want := `{"protection":{"ExpirationDate":"2026-11-20T13:00:00.000Z","ProtectionEnabled":true,"TaskArn":"` + arn + `"}}`; code != 200 || body != want {
		t.Errorf("%d %s", code, body)
	}
	if !asked.Change || !asked.Enabled || *asked.Minutes != 60 || asked.Role != "arn:role" || asked.Task != id || asked.Cluster != "shop" {
		t.Errorf("asked %+v", asked)
	}
	answer = ProtectionAnswer{}
	if code, body := do(http.MethodGet, path, ""); code != 200 || body != `{"protection":{"ExpirationDate":null,"ProtectionEnabled":false,"TaskArn":"`+arn+`"}}` || asked.Change {
		t.Errorf("%d %s", code, body)
	}
	answer = ProtectionAnswer{Failure: "TASK_NOT_VALID"}
	if code, body := do(http.MethodGet, path, ""); code != 200 || body != `{"failure":{"Arn":"`+arn+`","Detail":null,"Reason":"TASK_NOT_VALID"}}` {
		t.Errorf("%d %s", code, body)
	}
	answer = ProtectionAnswer{Code: "AccessDeniedException", Message: "no"}
	if code, body := do(http.MethodGet, path, ""); code != 400 || body != `{"error":{"Arn":"`+arn+`","Code":"AccessDeniedException","Message":"no"}}` {
		t.Errorf("%d %s", code, body)
	}
	for _, bad := range []string{`{`, `{}`, `{"ProtectionEnabled":"x"}`} {
		if code, body := do(http.MethodPut, path, bad); code != 400 || !strings.Contains(body, "InvalidParameterException") {
			t.Errorf("%s: %d %s", bad, code, body)
		}
	}
	if code, _ := do(http.MethodPost, path, ""); code != 405 {
		t.Errorf("POST: %d", code)
	}
	for _, other := range []string{"/api/nobody/task-protection/v1/state", "/api/" + id + "-web/fault/v1/x"} {
		if code, _ := do(http.MethodGet, other, ""); code != 404 {
			t.Errorf("%s: %d", other, code)
		}
	}
	view.RoleARN = ""
	if code, body := do(http.MethodGet, path, ""); code != 403 || !strings.Contains(body, "no task role") {
		t.Errorf("without a role: %d %s", code, body)
	}
}
