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

// contentTypes are those of answers.
var contentTypes = map[Protocol]string{JSON11: "application/x-amz-json-1.1", JSON10: "application/x-amz-json-1.0", Query: "text/xml",
	EC2Query: "text/xml", RESTJSON: "application/json", RESTXML: "application/xml", CBOR: "application/cbor"}

// protocolCBOR is the Smithy-Protocol header of smithy-rpc-v2-cbor, in requests and answers.
const protocolCBOR = "rpc-v2-cbor"

func (x *exchange) write(a answer) {
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		x.w.WriteHeader(a.status) // these have no body
		return
	}
	if h := x.w.Header(); h.Get("Content-Type") == "" && (x.proto != CBOR || len(a.body) > 0) { // unless the output has a member for it
		h.Set("Content-Type", cmp.Or(a.kind, contentTypes[x.proto]))
	}
	if x.proto == CBOR {
		x.w.Header().Set("Smithy-Protocol", protocolCBOR)
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
	if x.proto == EC2Query {
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
	} else if x.e.Unavailable != nil && x.e.Unavailable(err) {
		refused = x.unavailable(err)
	} else {
		refused = x.hide(err)
	}
	code, status := x.errorName(refused.Code)
	if code == "UnauthorizedOperation" {
		refused = model.Errorf(code, "You are not authorized to perform this operation. %s", refused.Message)
	}
	if x.writesXML() {
		x.write(answer{status: status, body: x.xmlError(code, status, refused.Message)})
		return
	}
	x.writeError(code, status, map[string]any{"message": refused.Message})
}

// writeError answers with the members of an error in a protocol that is not XML.
func (x *exchange) writeError(code string, status int, members map[string]any) {
	members["__type"] = code
	switch x.proto {
	case CBOR:
		x.queryError(code, status)
		x.write(answer{status: status, body: appendCBORValue(nil, members)})
		return
	case RESTJSON:
		x.w.Header().Set("X-Amzn-Errortype", code)
	}
	if x.proto == JSON10 && x.service != nil && x.service.Shape != "" {
		x.queryError(code, status)
	}
	body, _ := json.Marshal(members) // it was JSON a moment ago
	x.write(answer{status: status, body: body})
}

// queryError says an error's name of the query protocol to clients of a service that spoke it once: they look there first.
func (x *exchange) queryError(code string, status int) {
	if x.r.Header.Get("X-Amzn-Query-Mode") != "true" {
		return
	}
	if x.service != nil && x.service.Types != nil {
		if entry, ok := x.service.Types.LookupEntry(code); ok {
			if t, ok := smithy.SchemaTrait[*traits.AWSQueryError](entry.Schema); ok {
				code = t.ErrorCode
			}
		}
	}
	x.w.Header().Set("X-Amzn-Query-Error", code+";"+faultOf(status))
}

// faultOf says in the words of the query protocol whose an error is.
func faultOf(status int) string {
	if status >= http.StatusInternalServerError {
		return "Receiver"
	}
	return "Sender"
}

func (x *exchange) writesXML() bool {
	return x.proto == Query || x.proto == EC2Query || x.proto == RESTXML
}

// hide logs a fault and returns what the client sees of it.
func (x *exchange) hide(err error) *model.Error {
	service := ""
	if x.service != nil {
		service = x.service.Name
	}
	x.e.Log.Error("request failed", "request", x.id, "service", service, "operation", x.op, "error", err)
	code := "InternalFailure"
	if x.proto == JSON11 || x.modelledStatus("ServerException") != 0 {
		code = "ServerException"
	}
	return model.Errorf(code, "Something went wrong inside Berth; its log has request %s", x.id)
}

// unavailable is what the client sees of an error that passes: the service's own name for that, where it has one.
func (x *exchange) unavailable(err error) *model.Error {
	x.e.Log.Warn("request not served now", "request", x.id, "operation", x.op, "reason", err)
	x.w.Header().Set("Retry-After", "1")
	code := "ServiceUnavailable"
	if x.service != nil && x.service.Types != nil {
		if _, ok := x.service.Types.LookupEntry("ServiceUnavailableException"); ok {
			code = "ServiceUnavailableException"
		}
	}
	return model.Errorf(code, "Berth cannot serve this now, and whether it happened may be unknown; try again: %s", err)
}

func (x *exchange) failModelled(err modelledError) {
	members := map[string]any{}
	if entry, ok := x.service.Types.LookupEntry(reflect.TypeOf(err).Elem().Name()); ok {
		text := encodeJSON(err, entry.Schema)
		if x.proto == RESTJSON {
			text = encodeMembers(err, entry.Schema, x.w.Header(), false).body
		}
		_ = json.Unmarshal(text, &members) // they write JSON
	}
	_, status := x.errorName(err.ErrorCode())
	if err.ErrorFault() == smithy.FaultServer && status < http.StatusInternalServerError {
		status = http.StatusInternalServerError
	}
	x.writeError(err.ErrorCode(), status, members)
}

// errorName spells the errors of the endpoint itself as the service's protocol does, and gives the HTTP status.
func (x *exchange) errorName(code string) (string, int) {
	if status := x.modelledStatus(code); status != 0 {
		return code, status
	}
	if x.service != nil && x.service.Statuses[code] != 0 {
		return code, x.service.Statuses[code]
	}
	switch code {
	case "ServerException", "InternalFailure", "InternalError", "InternalServerException":
		return code, http.StatusInternalServerError
	case "ServiceUnavailable", "ServiceUnavailableException":
		return code, http.StatusServiceUnavailable
	case "DryRunOperation":
		return code, http.StatusPreconditionFailed
	}
	if code == "UnknownOperationException" && (x.proto == RESTJSON || x.proto == RESTXML) {
		return code, http.StatusNotFound
	}
	if code == "UnsupportedOperationException" && x.proto == RESTXML {
		return "NotImplemented", http.StatusNotImplemented
	}
	for _, n := range ownNames {
		if code != n.json && code != n.query {
			continue
		}
		switch {
		case x.isS3() && n.s3 != "":
			return n.s3, n.s3Status
		case x.proto == EC2Query && n.ec2 != "":
			return n.ec2, n.ec2Status
		case x.writesXML():
			return n.query, n.status
		case x.proto == RESTJSON:
			return n.json, n.status
		}
		return n.json, n.jsonStatus
	}
	return code, http.StatusBadRequest
}

// modelledStatus is the HTTP status that the model gives one of the service's errors, 0 without one or where the protocol has its own.
func (x *exchange) modelledStatus(code string) int {
	if x.service == nil || x.service.Types == nil || x.proto != RESTJSON && x.proto != RESTXML && x.proto != CBOR {
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
	s3                 string
	s3Status           int
}{
	{json: "MissingAuthenticationTokenException", query: "MissingAuthenticationToken", jsonStatus: 400, status: 403,
		s3: "AccessDenied", s3Status: 403},
	{json: "IncompleteSignatureException", query: "IncompleteSignature", jsonStatus: 400, status: 403},
	{json: "InvalidSignatureException", query: "SignatureDoesNotMatch", jsonStatus: 400, status: 403},
	{json: "UnrecognizedClientException", query: "InvalidClientTokenId", jsonStatus: 400, status: 403, ec2: "AuthFailure", ec2Status: 401,
		s3: "InvalidAccessKeyId", s3Status: 403},
	{json: "ExpiredTokenException", query: "ExpiredToken", jsonStatus: 400, status: 403},
	{json: "AccessDeniedException", query: "AccessDenied", jsonStatus: 400, status: 403, ec2: "UnauthorizedOperation", ec2Status: 403},
	{json: "RequestTimeoutException", query: "RequestTimeout", jsonStatus: 408, status: 408,
		s3: "RequestTimeout", s3Status: 400},
	{json: "RequestEntityTooLargeException", query: "RequestEntityTooLarge", jsonStatus: 413, status: 413,
		s3: "EntityTooLarge", s3Status: 400},
	{json: "ThrottlingException", query: "Throttling", jsonStatus: 400, status: 400, ec2: "RequestLimitExceeded", ec2Status: 503,
		s3: "SlowDown", s3Status: 503},
}

// isS3 tells whether a request is for S3, whose errors have a form and names of their own.
func (x *exchange) isS3() bool { return strings.HasPrefix(x.scope, "s3") }

func (x *exchange) xmlError(code string, status int, message string) []byte {
	w := &xmlWriter{}
	if x.isS3() {
		w.buf.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
		w.element("Error", func() {
			w.leaf("Code", code)
			w.leaf("Message", message)
			w.leaf("Resource", x.r.URL.Path)
			w.leaf("RequestId", x.id)
		})
		return []byte(w.buf.String())
	}
	if x.proto == EC2Query {
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
	w.element("ErrorResponse", func() {
		w.element("Error", func() {
			w.leaf("Type", faultOf(status))
			w.leaf("Code", code)
			w.leaf("Message", message)
		})
		w.leaf("RequestId", x.id)
	})
	return []byte(w.buf.String())
}
