package console

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// axe is axe-core, from the console's dev dependencies; the test is skipped, aloud, where they are not installed.
func axe(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("../../internal/console/web/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Skip("SKIP axe: its package is not installed (make build does it)")
	}
	return string(script)
}

// Every page passes axe in both themes, fits 390 px, and makes the browser complain of nothing: no script error, no breach of its policy.
func TestEveryPageIsAccessible(t *testing.T) {
	script := axe(t)
	b := start(t)
	b.demo()
	ended := b.task("shop", "worker")
	pages := []struct{ path, sees string }{
		{"/", "Capacity"}, {"/clusters", "Clusters"}, {"/clusters/shop", "storefront"}, {"/clusters/shop/tasks", "running"}, {"/clusters/shop/settings", "ARN"},
		{"/clusters/shop/services/storefront", "2/2"}, {"/clusters/shop/services/storefront/deployments", "storefront:1"}, {"/clusters/shop/services/storefront/tasks", "running"},
		{"/clusters/shop/services/storefront/logs", "following"}, {"/clusters/shop/services/storefront/metrics", "Memory"}, {"/clusters/shop/services/worker/events", "started"},
		{"/clusters/shop/services/storefront/config", "FEATURE_X"}, {"/clusters/shop/services/storefront/path", "load balancer"},
		{"/clusters/shop/tasks/" + ended, "64 MiB"}, {"/clusters/shop/tasks/" + ended + "/json", "taskArn"}, {"/clusters/shop/tasks/" + ended + "/config", "Memory"},
		{"/tasks", "running"}, {"/taskdefs", "storefront"}, {"/taskdefs/storefront/2", "Containers"}, {"/taskdefs/storefront/diff?a=1&b=2", "FEATURE_X"}, {"/taskdefs/new", "accepted"},
		{"/images", "Repositories"}, {"/balancers", "web"}, {"/balancers/web", "wins"}, {"/nodes", "free"}, {"/nodes?view=table", "active"}, {"/logs", "Log groups"}, {"/events", "started"},
		{"/deploy", "Plan"}, {"/settings", "Theme"}, {"/settings/keys", "Logged in as"}, {"/settings/sessions", "this one"}, {"/settings/doctor", "berth doctor"}, {"/nonsense", "no such page"},
	}
	for _, dark := range []bool{false, true} {
		v := b.browser(1280, 900, dark)
		v.login()
		for _, p := range pages {
			v.open(p.path)
			v.sees(p.sees)
			time.Sleep(150 * time.Millisecond)
			v.check(script, fmt.Sprintf("%s, dark %v", p.path, dark))
		}
		v.open("/clusters/shop/services/storefront")
		v.sees("2/2")
		v.click("Force")
		v.sees("Replace all tasks")
		v.check(script, fmt.Sprintf("a dialog, dark %v", dark))
		v.clean()
	}
	v := b.browser(390, 844, false)
	v.login()
	for _, p := range pages {
		v.open(p.path)
		v.sees(p.sees)
		if w := js[int](v, `document.documentElement.scrollWidth`); w > 390 {
			t.Errorf("%s is %d px wide on a screen of 390", p.path, w)
		}
	}
	v.clean()
	login := b.browser(390, 844, true)
	login.open("/")
	login.sees("Or by an access key")
	login.check(script, "login")
}

// check runs axe in the page. It is evaluated by the debugger, which the page's policy does not hold back.
func (v *browser) check(script, where string) {
	v.t.Helper()
	v.do(chromedp.Evaluate[chromedp.Void](script + "; undefined"))
	found := js[[]string](v, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(x => x.id + ": " + x.help + " " + x.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " " + (n.any[0]?.message ?? n.all[0]?.message ?? "")).join(" | ")))`)
	if len(found) > 0 {
		v.t.Errorf("axe on %s:\n  %s", where, strings.Join(found, "\n  "))
	}
}
