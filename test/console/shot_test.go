package console

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/chromedp/chromedp"
)

// TestScreenshots takes the pictures of docs/screenshots (make screenshots).
func TestScreenshots(t *testing.T) {
	to := os.Getenv("BERTH_SCREENSHOTS")
	if to == "" {
		t.Skip("BERTH_SCREENSHOTS is not set: make screenshots takes them")
	}
	b := start(t)
	b.demo()
	task := b.task("shop", "worker")
	for _, dark := range []bool{false, true} {
		v := b.browser(1200, 760, dark)
		v.login()
		theme := map[bool]string{false: "light", true: "dark"}[dark]
		for _, p := range []struct{ name, path, sees string }{
			{"overview", "/", "worker"}, {"service", "/clusters/shop/services/storefront", "2/2"}, {"task", "/clusters/shop/tasks/" + task, "64 MiB"},
			{"nodes", "/nodes", "free"}, {"logs", "/logs?group=/test/storefront,/test/auth", "started"}, {"editor", "/taskdefs/new?from=storefront:2", "accepted"},
			{"path", "/balancers/web", "wins"}, {"deploy", "/deploy", "Target group"},
		} {
			v.open(p.path)
			v.sees(p.sees)
			time.Sleep(700 * time.Millisecond)
			v.do(chromedp.EmulateViewport(1200, 760))
			png, err := chromedp.Run(v.ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(to, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, p.name+"-"+theme+".png"), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		v.clean()
	}
}

// demo is a shop in every state.
func (b *berth) demo() {
	b.t.Helper()
	b.service("shop", "storefront", "fake/storefront:v7", 2)
	b.service("shop", "auth", "fake/auth:v3", 2)
	b.service("shop", "payment", "fake/payment:v2", 3)
	b.service("shop", "worker", "fake/oom", 1)
	b.service("shop", "search", "fake/missing:v9", 1)
	b.define("storefront", "fake/storefront:v8", func(c *types.ContainerDefinition) {
		c.Environment = []types.KeyValuePair{{Name: new("FEATURE_X"), Value: new("on")}}
	})
	must[*ecs.UpdateServiceOutput](b.t)(b.ecs.UpdateService(b.t.Context(), &ecs.UpdateServiceInput{Cluster: new("shop"), Service: new("storefront"), TaskDefinition: new("storefront:2")}))
	b.balancer("web", "web-group")
	b.write("/test/storefront", "storefront/web/1", "GET /cart 200 8 ms", "GET /checkout 200 31 ms", `{"level":"warn","message":"upstream is slow","peer":"payment","ms":812}`, "GET /cart 200 7 ms", "error: upstream timed out after 30 s")
}

// task is the id of a task of the service that has ended, or of any.
func (b *berth) task(cluster, service string) string {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out := must[*ecs.ListTasksOutput](b.t)(b.ecs.ListTasks(b.t.Context(), &ecs.ListTasksInput{Cluster: &cluster, ServiceName: &service, DesiredStatus: types.DesiredStatusStopped}))
		if len(out.TaskArns) > 0 {
			return filepath.Base(out.TaskArns[0])
		}
	}
	b.t.Fatal("no task of " + service + " has ended")
	return ""
}
