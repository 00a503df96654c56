package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"

	"github.com/berthdev/berth/internal/model"
)

// Content types of answers.
const (
	typeJSON11 = "application/x-amz-json-1.1"
	typeJSON10 = "application/x-amz-json-1.0"
	typeREST   = "application/json"
	typeXML    = "text/xml"
)

// contentType is that of the service; while none is known, of the protocol that the request seems to speak.
func (x *exchange) contentType() string {
	switch {
	case x.service != nil && x.service.Protocol == JSON11:
		return typeJSON11
	case x.service != nil && x.service.Protocol == JSON10:
		return typeJSON10
	case x.service != nil && x.service.Protocol == RESTJSON:
		return typeREST
	case x.service != nil:
		return typeXML
	case x.r.Header.Get("X-Amz-Target") != "":
		return typeJSON11
	case x.isQuery():
		return typeXML
	}
	return typeREST
}

func (x *exchange) write(a answer) {
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		x.w.WriteHeader(a.status) // these have no body
		return
	}
	if h := x.w.Header(); h.Get("Content-Type") == "" { // unless the output has a member for it
		h.Set("Content-Type", cmp.Or(a.kind, x.contentType()))
	}
	x.w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	x.w.WriteHeader(a.status)
	w, done := x.e.Pace.Writer(x.w)
	defer done()
	_, _ = w.Write(a.body) // the client may be gone; there is nobody left to tell
}

func (x *exchange) xmlAnswer(out any) []byte {
	v := reflect.ValueOf(out).Elem()
	w := &xmlWriter{item: "member", name: func(_ reflect.Type, f string) string { return f }}
	if x.service.Protocol == EC2Query {
		w.item, w.name = "item", x.service.ec2Name
		fmt.Fprintf(&w.buf, `<%sResponse xmlns="%s"><requestId>%s</requestId>`, x.op, x.service.Namespace, x.id)
		w.fields(v)
		fmt.Fprintf(&w.buf, "</%sResponse>", x.op)
		return []byte(w.buf.String())
	}
	fmt.Fprintf(&w.buf, `<%sResponse xmlns="%s"><%sResult>`, x.op, x.service.Namespace, x.op)
	w.fields(v)
	fmt.Fprintf(&w.buf, `</%sResult><ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>`, x.op, x.id, x.op)
	return []byte(w.buf.String())
}

// ec2Name is the response element of a field.
func (s *Service) ec2Name(owner reflect.Type, field string) string {
	if n, ok := s.Names[owner.Name()+"."+field]; ok {
		return n
	}
	if n, ok := s.Names[field]; ok {
		return n
	}
	return strings.ToLower(field[:1]) + field[1:]
}

// modelledError is one of the SDK's error types, of a service that has schemas.
type modelledError interface {
	smithy.DeserializableError
	smithy.APIError
}

// fail answers with a refusal, or hides a fault behind a name and logs it.
func (x *exchange) fail(err error) {
	if modelled, ok := errors.AsType[modelledError](err); ok && x.service != nil && x.service.Types != nil {
		x.failModelled(modelled)
		return
	}
	var refused *model.Error
	if known, ok := errors.AsType[*model.Error](err); ok {
		refused = known
	} else if api, ok := errors.AsType[smithy.APIError](err); ok {
		refused = model.Errorf(api.ErrorCode(), "%s", api.ErrorMessage())
	} else if errors.Is(err, context.Canceled) && x.r.Context().Err() != nil {
		refused = model.Errorf("ServiceUnavailable", "The request was given up: its client went away or Berth is stopping")
	} else {
		refused = x.hide(err)
	}
	code, status := x.errorName(refused.Code)
	if code == "UnauthorizedOperation" {
		refused = model.Errorf(code, "You are not authorized to perform this operation. %s", refused.Message)
	}
	switch x.contentType() {
	case typeXML:
		x.write(answer{status: status, body: x.xmlError(code, refused.Message)})
		return
	case typeREST:
		x.w.Header().Set("X-Amzn-Errortype", code)
	}
	body, _ := json.Marshal(map[string]string{"__type": code, "message": refused.Message}) // strings always marshal
	x.write(answer{status: status, body: body})
}

// hide logs a fault and returns what the client sees of it.
func (x *exchange) hide(err error) *model.Error {
	service := ""
	if x.service != nil {
		service = x.service.Name
	}
	x.e.Log.Error("request failed", "request", x.id, "service", service, "operation", x.op, "error", err)
	code := "InternalFailure"
	if x.contentType() == typeJSON11 || x.modelledStatus("ServerException") != 0 {
		code = "ServerException"
	}
	return model.Errorf(code, "Something went wrong inside Berth; its log has request %s", x.id)
}

func (x *exchange) failModelled(err modelledError) {
	body := map[string]json.RawMessage{}
	rest := x.service.Protocol == RESTJSON
	if entry, ok := x.service.Types.LookupEntry(reflect.TypeOf(err).Elem().Name()); ok && rest {
		_ = json.Unmarshal(encodeMembers(err, entry.Schema, x.w.Header()).body, &body) // it writes JSON
	} else if ok {
		_ = json.Unmarshal(encodeJSON(err, entry.Schema), &body) // as this does
	}
	body["__type"], _ = json.Marshal(err.ErrorCode()) // a string always marshals
	out, _ := json.Marshal(body)                      // it was JSON a moment ago
	_, status := x.errorName(err.ErrorCode())
	if err.ErrorFault() == smithy.FaultServer && status < http.StatusInternalServerError {
		status = http.StatusInternalServerError
	}
	if rest {
		x.w.Header().Set("X-Amzn-Errortype", err.ErrorCode())
	}
	x.write(answer{status: status, body: out})
}

// errorName spells the errors of the endpoint itself as the service's protocol does, and gives the HTTP status.
func (x *exchange) errorName(code string) (string, int) {
	if status := x.modelledStatus(code); status != 0 {
		return code, status
	}
	switch code {
	case "ServerException", "InternalFailure", "InternalError", "InternalServerException":
		return code, http.StatusInternalServerError
	case "ServiceUnavailable", "ServiceUnavailableException":
		return code, http.StatusServiceUnavailable
	case "DryRunOperation":
		return code, http.StatusPreconditionFailed
	}
	kind := x.contentType()
	if code == "UnknownOperationException" && kind == typeREST {
		return code, http.StatusNotFound
	}
	for _, n := range ownNames {
		if code != n.json && code != n.query {
			continue
		}
		switch {
		case kind == typeXML && n.ec2 != "" && x.service != nil && x.service.Protocol == EC2Query:
			return n.ec2, n.ec2Status
		case kind == typeXML:
			return n.query, n.status
		case kind == typeREST:
			return n.json, n.status
		}
		return n.json, n.jsonStatus
	}
	return code, http.StatusBadRequest
}

// modelledStatus is the HTTP status that the model of a REST service gives one of its errors, 0 without one.
func (x *exchange) modelledStatus(code string) int {
	if x.service == nil || x.service.Protocol != RESTJSON || x.service.Types == nil {
		return 0
	}
	if entry, ok := x.service.Types.LookupEntry(code); ok {
		if t, ok := smithy.SchemaTrait[*traits.HTTPError](entry.Schema); ok {
			return t.Code
		}
	}
	return 0
}

// ownNames are the refusals of the endpoint itself: services that speak JSON have one set of names and 400 for nearly all of them,
// the others another set, and EC2 some of its own.
var ownNames = []struct {
	json, query        string
	jsonStatus, status int
	ec2                string
	ec2Status          int
}{
	{json: "MissingAuthenticationTokenException", query: "MissingAuthenticationToken", jsonStatus: 400, status: 403},
	{json: "IncompleteSignatureException", query: "IncompleteSignature", jsonStatus: 400, status: 403},
	{json: "InvalidSignatureException", query: "SignatureDoesNotMatch", jsonStatus: 400, status: 403},
	{json: "UnrecognizedClientException", query: "InvalidClientTokenId", jsonStatus: 400, status: 403, ec2: "AuthFailure", ec2Status: 401},
	{json: "ExpiredTokenException", query: "ExpiredToken", jsonStatus: 400, status: 403},
	{json: "AccessDeniedException", query: "AccessDenied", jsonStatus: 400, status: 403, ec2: "UnauthorizedOperation", ec2Status: 403},
	{json: "RequestTimeoutException", query: "RequestTimeout", jsonStatus: 408, status: 408},
	{json: "RequestEntityTooLargeException", query: "RequestEntityTooLarge", jsonStatus: 413, status: 413},
	{json: "ThrottlingException", query: "Throttling", jsonStatus: 400, status: 400, ec2: "RequestLimitExceeded", ec2Status: 503},
}

func (x *exchange) xmlError(code, message string) []byte {
	w := &xmlWriter{}
	if x.service != nil && x.service.Protocol == EC2Query {
		w.element("Response", func() {
			w.element("Errors", func() {
				w.element("Error", func() {
					w.leaf("Code", code)
					w.leaf("Message", message)
				})
			})
			w.leaf("RequestID", x.id)
		})
		return []byte(w.buf.String())
	}
	fault := "Sender"
	if _, status := x.errorName(code); status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	w.element("ErrorResponse", func() {
		w.element("Error", func() {
			w.leaf("Type", fault)
			w.leaf("Code", code)
			w.leaf("Message", message)
		})
		w.leaf("RequestId", x.id)
	})
	return []byte(w.buf.String())
}
