package registry

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// route is one endpoint of the distribution API. Names contain slashes, so the pattern is matched from the end of the path.
type route struct {
	pattern *regexp.Regexp
	serve   func(r *Registry, w http.ResponseWriter, req *http.Request, m []string) error
	methods string
}

// routes in the order in which they are tried (OCI distribution-spec 1.1, "Endpoints").
var routes = []route{
	{regexp.MustCompile(`^/v2/?$`), (*Registry).serveBase, "GET HEAD"},
	{regexp.MustCompile(`^/v2/_catalog$`), (*Registry).serveCatalog, "GET"},
	{regexp.MustCompile(`^/v2/token$`), (*Registry).serveToken, "GET"},
	{regexp.MustCompile(`^/v2/(.+)/blobs/uploads/?$`), (*Registry).serveStart, "POST"},
	{regexp.MustCompile(`^/v2/(.+)/blobs/uploads/([^/]+)$`), (*Registry).serveUpload, "GET PATCH PUT DELETE"},
	{regexp.MustCompile(`^/v2/(.+)/blobs/([^/]+)$`), (*Registry).serveBlob, "GET HEAD DELETE"},
	{regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`), (*Registry).serveManifest, "GET HEAD PUT DELETE"},
	{regexp.MustCompile(`^/v2/(.+)/tags/list$`), (*Registry).serveTags, "GET"},
	{regexp.MustCompile(`^/v2/(.+)/referrers/([^/]+)$`), (*Registry).serveReferrers, "GET"},
}

// Claims tells whether a request is for the registry: what begins with /v2 and is not signed as requests to AWS are. Those are
// calls of services that have paths of that kind, such as API Gateway's /v2/apis or a bucket of S3 named v2; the registry's clients
// log in with Basic.
func Claims(req *http.Request) bool {
	if p := req.URL.Path; p != "/v2" && !strings.HasPrefix(p, "/v2/") {
		return false
	}
	signed := strings.HasPrefix(req.Header.Get("Authorization"), "AWS4-") || req.URL.Query().Has("X-Amz-Algorithm")
	return !signed && req.Header.Get("X-Amz-Target") == ""
}

// ServeHTTP serves /v2. Every request must carry Basic credentials AWS:<token of GetAuthorizationToken>, or that token as a Bearer's.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if err := r.dispatch(w, req); err != nil {
		r.fail(w, req, err)
	}
}

// Pulls serves /v2 to the cluster's own nodes, whom their certificates let in: they read, and need no password.
func (r *Registry) Pulls() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		err := error(refuse(403, "DENIED", "nodes pull; to push, log in at the registry's address"))
		if req.Method == http.MethodGet || req.Method == http.MethodHead {
			req.Header.Set(model.HeaderRuns, "1")
			err = r.route(w, req)
		}
		if err != nil {
			r.fail(w, req, err)
		}
	})
}

func (r *Registry) dispatch(w http.ResponseWriter, req *http.Request) error {
	if !r.signed(req) {
		c, err := r.authorize(w, req)
		if err != nil {
			return err
		}
		req = req.WithContext(withCaller(req.Context(), c))
	}
	return r.route(w, req)
}

func (r *Registry) route(w http.ResponseWriter, req *http.Request) error {
	for _, rt := range routes {
		m := rt.pattern.FindStringSubmatch(req.URL.Path)
		if m == nil {
			continue
		}
		if !strings.Contains(rt.methods, req.Method) {
			w.Header().Set("Allow", strings.ReplaceAll(rt.methods, " ", ", "))
			return refuse(405, "UNSUPPORTED", "the operation is unsupported")
		}
		if len(m) > 1 && (len(m[1]) > 256 || !namePattern.MatchString(m[1])) {
			return refuse(400, "NAME_INVALID", "invalid repository name")
		}
		return rt.serve(r, w, req, m)
	}
	return refuse(404, "UNSUPPORTED", "no such endpoint")
}

func (r *Registry) authorize(w http.ResponseWriter, req *http.Request) (c caller, err error) {
	user, password, ok := credentials(req)
	if !ok {
		challenge(w, req)
		return c, refuse(401, "UNAUTHORIZED", "Not Authorized: log in with `aws ecr get-login-password | docker login -u AWS --password-stdin`")
	}
	if user != "AWS" {
		challenge(w, req)
		return c, refuse(401, "UNAUTHORIZED", "Not Authorized: the user name is AWS")
	}
	c.password = password
	if c.arn, err = r.Auth.CheckRegistryToken(password); err != nil {
		challenge(w, req)
		return c, refuse(401, "DENIED", err.Error())
	}
	arn, policies := r.resourceOf(req)
	return c, denied(r.Auth.AllowToken(password, actionOf(req), arn, policies...))
}

// resourceOf is the ARN of the repository that a request is about, "" when it is about none, and its policy, where it has one.
func (r *Registry) resourceOf(req *http.Request) (arn string, policies []string) {
	for _, rt := range routes {
		if m := rt.pattern.FindStringSubmatch(req.URL.Path); len(m) > 1 {
			r.Store.View(func(tx store.Reader) {
				if repo, ok := store.Repositories.Get(tx, m[1]); ok && repo.Policy != "" {
					policies = []string{repo.Policy}
				}
			})
			return r.Scope.ARN("ecr", "repository/"+m[1]), policies
		}
	}
	return "", nil
}

// actionOf is what ECR calls a request.
func actionOf(req *http.Request) string {
	reads := req.Method == http.MethodGet || req.Method == http.MethodHead
	switch blobs := strings.Contains(req.URL.Path, "/blobs/"); {
	case strings.TrimSuffix(req.URL.Path, "/") == "/v2", req.URL.Path == tokenPath:
		return "ecr:GetAuthorizationToken" // who has a token may ask whether it is one
	case strings.HasSuffix(req.URL.Path, "/tags/list"):
		return "ecr:ListImages"
	case req.URL.Path == "/v2/_catalog":
		return "ecr:DescribeRepositories"
	case req.Method == http.MethodDelete:
		return "ecr:BatchDeleteImage"
	case blobs && reads:
		return "ecr:GetDownloadUrlForLayer"
	case blobs:
		return "ecr:InitiateLayerUpload"
	case reads:
		return "ecr:BatchGetImage"
	}
	return "ecr:PutImage"
}

// fail answers with an error in the form of the distribution-spec; what is not an *Error is logged and hidden.
func (r *Registry) fail(w http.ResponseWriter, req *http.Request, err error) {
	e, ok := errors.AsType[*Error](err)
	if k, is := errors.AsType[*KMSError](err); is {
		e, ok = refuse(403, "DENIED", "KmsException: "+k.Error()), true
	}
	if !ok {
		if req.Context().Err() != nil {
			return // the client is gone
		}
		r.Log.Error("registry request failed", "method", req.Method, "path", req.URL.Path, "error", err)
		e = refuse(500, "UNKNOWN", "the registry failed; its log says why")
	}
	body, _ := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": e.Code, "message": e.Message}}})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	if req.Method != http.MethodHead {
		w.Write(body)
	}
}

func writeJSON(w http.ResponseWriter, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	_, err = w.Write(body)
	return err
}
