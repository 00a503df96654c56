package console

import (
	"io"
	"net/http"
	"slices"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxRequest bounds a call of the API.
const maxRequest = 1 << 20

// regionHeader says which region a call is for; without it, the home region.
const regionHeader = "X-Console-Region"

// aws calls an operation of the API as the session's caller. The body is the CLI's --cli-input-json.
func (s *Console) aws(w http.ResponseWriter, r *http.Request, row *model.ConsoleSession) {
	s.call(w, r, row)
}

// checked are the operations that can be rehearsed: their handlers have no effect but Updates of the store.
var checked = map[string][]string{
	"ecs": {"RegisterTaskDefinition", "CreateService", "UpdateService", "DeleteService", "CreateCluster", "UpdateCluster", "DeleteCluster", "DeregisterTaskDefinition",
		"StopTask", "RunTask", "UpdateContainerInstancesState"},
	"elasticloadbalancing": {"CreateLoadBalancer", "CreateTargetGroup", "CreateListener", "CreateRule", "ModifyListener", "ModifyRule", "ModifyTargetGroup", "DeleteRule",
		"DeleteListener", "DeleteTargetGroup", "DeleteLoadBalancer"},
}

// check has the operation's own handler refuse or accept a request, and nothing happens.
func (s *Console) check(w http.ResponseWriter, r *http.Request, row *model.ConsoleSession) {
	if !slices.Contains(checked[r.PathValue("service")], r.PathValue("op")) {
		s.fail(w, http.StatusBadRequest, model.Errorf("CannotBeChecked", "%.40s:%.60s cannot be rehearsed: it has effects besides the store.", r.PathValue("service"), r.PathValue("op")))
		return
	}
	s.call(w, r.WithContext(store.Dry(r.Context())), row)
}

func (s *Console) call(w http.ResponseWriter, r *http.Request, row *model.ConsoleSession) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		s.fail(w, http.StatusRequestEntityTooLarge, model.Errorf("RequestEntityTooLargeException", "The request is larger than %d bytes, or did not arrive whole.", maxRequest))
		return
	}
	out, err := s.c.API.Invoke(r.Context(), callerOf(row, r.Header.Get(regionHeader)), r.PathValue("service"), r.PathValue("op"), body)
	if err != nil {
		s.fail(w, statusOf(err), err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out)
}

func statusOf(err error) int {
	switch model.ErrorCode(err) {
	case "AccessDeniedException", "AccessDenied", "UnauthorizedOperation":
		return http.StatusForbidden
	case "ServiceUnavailable", "ServiceUnavailableException":
		return http.StatusServiceUnavailable
	case "InternalFailure", "ServerException":
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}
