package console

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/chromedp/chromedp"
)

// Both ways to log in, and what a used link and a wrong key are answered.
func TestLogin(t *testing.T) {
	b := start(t)
	v := b.browser(1280, 900, false)
	link := strings.TrimSpace(b.run("console"))
	v.do(chromedp.Navigate(link))
	v.sees("Overview")
	v.sees("Capacity")
	v.clean()
	other := b.browser(1280, 900, false)
	other.do(chromedp.Navigate(link))
	other.sees("This link was used, or is older than a minute.")
	other.do(chromedp.SendKeys(`input[autocomplete=username]`, "AKIANOBODY"), chromedp.SendKeys(`input[type=password]`, "wrong"))
	other.click("Log in")
	other.sees("do not belong together")
	id, secret := b.key()
	other.do(chromedp.Navigate("about:blank"))
	other.open("/")
	other.sees("Or by an access key")
	other.do(chromedp.SendKeys(`input[autocomplete=username]`, id), chromedp.SendKeys(`input[type=password]`, secret))
	other.click("Log in")
	other.sees("Capacity")
	other.open("/settings/sessions")
	other.sees("this one")
	other.clean("403")
}

// Each way a task ends or hangs shows its cause and cure without a click.
func TestWhy(t *testing.T) {
	b := start(t)
	b.service("default", "oom", "fake/oom", 1)
	b.service("default", "missing", "fake/missing:1", 1)
	b.service("default", "crash", "fake/crash", 1)
	b.service("default", "broken", "fake/broken", 1)
	b.service("default", "sick", "fake/unhealthy", 1, func(c *types.ContainerDefinition) {
		c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "true"}, Interval: new(int32(5)), Timeout: new(int32(2)), Retries: new(int32(1))}
	})
	v := b.browser(1280, 1400, false)
	v.login()
	v.sees("oom used all of its 64 MiB and was killed (exit 137)")
	v.sees("There is no image fake/missing:1 in its registry.")
	v.sees("crash exited with 1 by its own decision.")
	v.sees("broken's command is not in the image")
	v.sees("health check")
	// The cure of the first: a new revision with twice the memory, deployed.
	v.open("/clusters/default/services/oom")
	v.click("128 MiB")
	v.sees("aws ecs register-task-definition")
	v.click("New revision and deploy")
	v.sees("oom:2")
	v.clean()
}

// Scaling, stopping a task, and rolling back are seen without a reload; another session sees them too.
func TestServiceLivesOnThePage(t *testing.T) {
	b := start(t)
	b.service("shop", "storefront", "fake/web:v1", 2)
	b.define("storefront", "fake/web:v2") // long before the dialog is opened, whose choices stand still
	v, second := b.browser(1280, 1000, false), b.browser(1280, 1000, true)
	v.login()
	second.login()
	second.open("/clusters/shop/services/storefront")
	v.open("/clusters/shop/services/storefront")
	v.sees("2/2")
	second.sees("2/2")
	v.click("One task more")
	v.sees("aws ecs update-service --cluster shop --service storefront --desired-count 3")
	v.click("Scale")
	v.sees("3/3")
	second.sees("3/3")
	v.click("Deploy")
	v.sees("storefront:2")
	v.do(chromedp.SetValue(`dialog select`, "storefront:2"))
	v.run(`document.querySelector("dialog select").dispatchEvent(new Event("change", {bubbles: true}))`)
	v.run(`[...document.querySelectorAll("dialog button")].find(b => b.className === "primary").click()`)
	v.sees("fake/web:v2")
	v.click("Roll back to r1")
	v.run(`[...document.querySelectorAll("dialog button")].find(b => b.className === "primary").click()`)
	v.sees("fake/web:v1")
	// Stop one task and watch its ladder.
	out := must[*ecs.ListTasksOutput](t)(b.ecs.ListTasks(t.Context(), &ecs.ListTasksInput{Cluster: new("shop")}))
	id := out.TaskArns[0][strings.LastIndexByte(out.TaskArns[0], '/')+1:]
	v.open("/clusters/shop/tasks/" + id)
	v.sees("running")
	v.click("Stop task")
	v.sees("drained and ended")
	v.run(`[...document.querySelectorAll("dialog button")].find(b => b.className === "danger").click()`)
	v.sees("asked to stop")
	v.sees("stopped")
	v.sees("Somebody stopped it")
	v.clean()
	second.clean()
}

// A new service by the wizard, with a URL.
func TestDeploy(t *testing.T) {
	b := start(t)
	v := b.browser(1280, 1200, false)
	v.login()
	v.open("/deploy?image=fake/web:v1")
	v.sees("aws elbv2 create-target-group")
	v.run(`[...document.querySelectorAll("form button")].find(b => b.innerText === "Deploy").click()`)
	v.sees("1/1")
	v.sees("http://web-")
	v.clean()
}

// The palette finds and acts; keys go everywhere.
func TestPaletteAndKeys(t *testing.T) {
	b := start(t)
	b.service("default", "auth", "fake/auth", 1)
	v := b.browser(1280, 900, false)
	v.login()
	v.sees("auth")
	v.do(chromedp.KeyEvent("n")) // alone it does nothing
	v.do(chromedp.KeyEvent("g"), chromedp.KeyEvent("n"))
	v.sees("machine")
	v.click("Search or jump Ctrl-K")
	v.do(chromedp.SendKeys(`[role=combobox]`, "> scale auth 2\r"))
	v.sees("Scale auth")
	v.click("Scale")
	v.lacks("Scale auth")
	v.do(chromedp.KeyEvent("g"), chromedp.KeyEvent("s"))
	v.sees("2/2")
	v.do(chromedp.KeyEvent("?"))
	v.sees("search or jump")
	v.clean()
}

// Lines come as they are written, a search finds in the store, HTML in them is text, and a line of 1 MB breaks nothing.
func TestLogs(t *testing.T) {
	b := start(t)
	b.service("default", "talk", "fake/talk", 1)
	v := b.browser(1280, 900, false)
	v.login()
	v.open("/clusters/default/services/talk/logs")
	v.sees("talk started")
	v.sees("following")
	b.write("/test/talk", "by-hand", `<img src=x onerror="document.title='owned'"> <b>bold</b>`, strings.Repeat("long ", 50_000), `{"level":"error","at":"checkout","why":"upstream timed out after 30 s"}`, "the needle is here")
	v.sees(`<img src=x onerror=`)
	v.sees("the needle is here")
	v.do(chromedp.SendKeys(`[data-filter]`, "needle"))
	v.lacks("talk started")
	v.sees("the needle is here")
	if title := js[string](v, `document.title`); title == "owned" {
		t.Error("a log line ran as script")
	}
	v.clean()
}

// A server that dies is told within 10 s; when it is back the page heals by itself.
func TestServerDies(t *testing.T) {
	b := start(t)
	b.service("default", "web", "fake/web", 1)
	v := b.browser(1280, 900, false)
	v.login()
	v.sees("steady")
	b.down()
	v.sees("Not live since")
	b.up()
	v.lacks("Not live since")
	v.sees("web")
	v.clean("WebSocket", "ERR_CONNECTION", "net::")
}

// Names with HTML, and a task definition that the real handler refuses while it is typed.
func TestEditor(t *testing.T) {
	b := start(t)
	b.define("web", "fake/web:v1", func(c *types.ContainerDefinition) {
		c.Environment = []types.KeyValuePair{{Name: new("DB_PASSWORD"), Value: new("hunter2")}, {Name: new("MODE"), Value: new("<script>alert(1)</script>")}}
	})
	v := b.browser(1280, 1400, false)
	v.login()
	v.open("/taskdefs/web/1")
	v.sees("<script>alert(1)</script>")
	v.sees("••••••")
	if strings.Contains(v.text(), "hunter2") {
		t.Error("a password is shown")
	}
	v.open("/taskdefs/new?from=web:1")
	v.sees("accepted")
	v.do(chromedp.SetValue(`textarea[aria-label="Task definition as JSON"]`, `{"family":"web"}`))
	v.run(`document.querySelector('textarea[aria-label="Task definition as JSON"]').dispatchEvent(new Event("input", {bubbles: true}))`)
	v.sees("refused")
	out := must[*ecs.ListTaskDefinitionsOutput](t)(b.ecs.ListTaskDefinitions(t.Context(), &ecs.ListTaskDefinitionsInput{}))
	if len(out.TaskDefinitionArns) != 1 {
		t.Errorf("what was only checked was registered: %v", out.TaskDefinitionArns)
	}
	v.clean("400")
}

// A page of another port of this machine can neither read nor write, though the browser sends it the cookie.
func TestAnotherPortsPage(t *testing.T) {
	b := start(t)
	v := b.browser(1280, 900, false)
	v.login()
	evil := page(t, `<p>evil</p>`)
	v.do(chromedp.Navigate(evil))
	for _, script := range []string{
		fmt.Sprintf(`fetch(%q, {method: "POST", credentials: "include", body: "{}"}).then(r => r.status + " read", e => "refused")`, b.url("/console/api/aws/ecs/ListClusters")),
		fmt.Sprintf(`new Promise(done => { const w = new WebSocket(%q); w.onopen = () => done("open"); w.onerror = () => done("refused"); })`, strings.Replace(b.url("/console/api/live"), "http", "ws", 1)),
	} {
		if got := js[string](v, script); got != "refused" {
			t.Errorf("another port's page: %s", got)
		}
	}
	time.Sleep(100 * time.Millisecond)
}
