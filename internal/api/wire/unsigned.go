package wire

import (
	"net/url"
	"slices"

	"github.com/berthdev/berth/internal/gate"
)

// maxUnsigned bounds the body of a request that nobody signed, bytes: a token of 20,000 characters, a policy and names.
const maxUnsigned = 64 << 10

// serveUnsigned serves the operations of query services that need no signature; refused is what others hear, before anything of
// their body is read that is larger than those may send.
func (x *exchange) serveUnsigned(refused error) (answer, error) {
	if !x.isQuery() || x.r.ContentLength > maxUnsigned || x.r.ContentLength < 0 || x.r.Header.Get("X-Amz-Target") != "" {
		return answer{}, refused
	}
	body, give, err := x.body()
	if err != nil {
		return answer{}, err
	}
	defer give()
	form := x.r.URL.Query()
	if posted, err := url.ParseQuery(string(body)); err == nil {
		for k, v := range posted {
			form[k] = v
		}
	}
	for _, s := range x.e.byName {
		if slices.Contains(s.Unsigned, form.Get("Action")) && form.Get("Version") == s.Version {
			x.service, x.proto, x.scope, x.unsigned = s, s.Protocol, s.Name, true
		}
	}
	if !x.unsigned {
		return answer{}, refused
	}
	if err := x.findAction(body); err != nil {
		return answer{}, err
	}
	ctx := WithCaller(x.r.Context(), Caller{Source: gate.Source(x.r), UserAgent: x.r.UserAgent(), Secure: x.r.TLS != nil})
	if x.e.Context != nil {
		ctx = x.e.Context(ctx, x.op)
	}
	return x.run(ctx, body, give)
}
