package console

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// The budgets of the console (issue 11).
const (
	mostScript = 100 << 10 // bytes of script at the first load, compressed
	mostStyle  = 20 << 10
)

func TestScriptsFitTheirBudget(t *testing.T) {
	for pattern, most := range map[string]int{"main-*.js": mostScript, "main-*.css": mostStyle} {
		files, _ := filepath.Glob("../../internal/console/dist/" + pattern)
		if len(files) == 0 {
			t.Skip("SKIP: the console was not built (make build does it)")
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
			_, _ = z.Write(data)
			_ = z.Close()
			t.Logf("%s: %d bytes compressed", filepath.Base(f), b.Len())
			if b.Len() > most {
				t.Errorf("%s has %d bytes compressed, the budget is %d", f, b.Len(), most)
			}
		}
	}
}

// BenchmarkConsole measures what people wait for: first paint, a change of the store until it is drawn, scrolling through many tasks
// (BERTH_TASKS, 1,000 unless told), and what the server does when nobody looks.
func BenchmarkConsole(b *testing.B) {
	s := start(b)
	n := 1000
	if v, err := strconv.Atoi(os.Getenv("BERTH_TASKS")); err == nil {
		n = v
	}
	s.service("default", "many", "fake/many", int32(n), func(c *types.ContainerDefinition) { c.Memory = new(int32(6)); c.LogConfiguration = nil })
	s.service("default", "one", "fake/one", 1)
	v := s.browser(1280, 900, false)
	v.login()
	for range b.N {
		v.open("/")
		v.sees("Capacity")
		b.ReportMetric(js[float64](v, `performance.getEntriesByName("first-contentful-paint")[0].startTime`), "ms-first-paint")
		v.open("/tasks")
		v.sees(strconv.Itoa(n + 1))
		time.Sleep(5 * time.Second) // the others start
		v.run(`window.long = 0; new PerformanceObserver(l => { for (const e of l.getEntries()) window.long = Math.max(window.long, e.duration) }).observe({type: "longtask"})`)
		v.do()
		js[bool](v, `new Promise(done => { const g = document.querySelector("[role=grid]"); let i = 0; const step = () => { g.scrollTop += 900; if (++i < 120) requestAnimationFrame(step); else setTimeout(() => done(true), 300); }; step(); })`)
		b.ReportMetric(js[float64](v, `window.long`), "ms-longest-task")
		b.ReportMetric(changes(b, s, v), "ms-change-p95")
		v.open("/settings")
		v.run(`window.stop()`)
		b.ReportMetric(0, "ns/op")
	}
}

// changes is the 95th percentile of the time from an API's answer to the pixels.
func changes(b *testing.B, s *berth, v *browser) float64 {
	v.open("/clusters/default/services/one")
	v.sees("Scale 1")
	var all []float64
	for i := range 20 {
		want := int32(2 + i%2)
		v.run(`window.drawn = new Promise(done => new MutationObserver((_, o) => { if (document.querySelector("main").innerText.includes("Scale ` + strconv.Itoa(int(want)) + `")) requestAnimationFrame(() => { o.disconnect(); done(Date.now()); }) }).observe(document.querySelector("main"), {subtree: true, childList: true, characterData: true}))`)
		must[*ecs.UpdateServiceOutput](b)(s.ecs.UpdateService(context.Background(), &ecs.UpdateServiceInput{Service: new("one"), DesiredCount: &want}))
		at := time.Now().UnixMilli()
		all = append(all, max(0, js[float64](v, `window.drawn`)-float64(at)))
	}
	slices.Sort(all)
	return all[len(all)*95/100]
}
