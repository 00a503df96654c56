// Package serve is what the four programs of the shop have in common: an HTTP server that says which task it is, answers health
// checks, and finishes its requests when it is told to stop.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path"
	"syscall"
	"time"
)

// Main serves mux on :8080 until SIGTERM, then lets the requests in flight end. name is the service's name and the first element
// of its paths. It never returns.
func Main(name string, mux *http.ServeMux) {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil)).With("service", name)
	task := taskID()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /"+name+"/whoami", func(w http.ResponseWriter, _ *http.Request) {
		JSON(w, http.StatusOK, map[string]string{"service": name, "task": task, "version": os.Getenv("VERSION")})
	})
	srv := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Task", task)
			mux.ServeHTTP(w, r)
			if r.URL.Path != "/healthz" {
				log.Info("served", "method", r.Method, "path", r.URL.Path, "task", task)
			}
		})}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		log.Info("stopping: finishing requests")
		grace, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = srv.Shutdown(grace) // the process ends in any case
	}()
	log.Info("listening", "address", srv.Addr, "task", task)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Error("cannot serve", "error", err)
		os.Exit(1)
	}
	<-done
}

// JSON answers with v.
func JSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the client is gone
}

// Fail answers with a sentence.
func Fail(w http.ResponseWriter, status int, sentence string) {
	JSON(w, status, map[string]string{"error": sentence})
}

// taskID asks the task metadata endpoint who this is; outside ECS it is the host's name.
func taskID() string {
	host, _ := os.Hostname()
	uri := os.Getenv("ECS_CONTAINER_METADATA_URI_V4")
	if uri == "" {
		return host
	}
	client := http.Client{Timeout: 2 * time.Second}
	for range 5 {
		res, err := client.Get(uri + "/task")
		if err == nil {
			var t struct{ TaskARN string }
			err = json.NewDecoder(res.Body).Decode(&t)
			res.Body.Close()
			if err == nil && t.TaskARN != "" {
				return path.Base(t.TaskARN)
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	return host
}
