// Command web is the program in the end-to-end tests' images: a small web server that can also misbehave on request.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	mode := "serve"
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	switch mode {
	case "serve":
		serve()
	case "exit":
		code, _ := strconv.Atoi(os.Args[2])
		fmt.Println("exiting with", code)
		os.Exit(code)
	case "eat":
		eat()
	case "stamp": // says when it began to run, in a file
		if err := os.WriteFile(os.Args[2], []byte(strconv.FormatInt(time.Now().UnixNano(), 10)), 0o644); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "stamps": // appends the machine's monotonic time to a file of the task's own below a folder, as long as it runs
		stamps(os.Args[2])
	case "probe": // a health check: is the server there?
		res, err := http.Get("http://127.0.0.1:" + port() + "/")
		if err != nil {
			os.Exit(1)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			os.Exit(1)
		}
	case "role": // prints the credentials of the task's role
		from := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
		if from == "" {
			from = "http://169.254.170.2" + os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
		}
		res, err := http.Get(from)
		if err != nil {
			fmt.Println("no credentials:", err)
			os.Exit(1)
		}
		_, err = io.Copy(os.Stdout, res.Body)
		res.Body.Close()
		if err != nil {
			os.Exit(1)
		}
		fmt.Println()
	case "fetch":
		client := http.Client{}
		if len(os.Args) > 3 {
			client.Timeout, _ = time.ParseDuration(os.Args[3])
		}
		res, err := client.Get(os.Args[2])
		if err != nil {
			fmt.Println("fetch failed:", err)
			os.Exit(3)
		}
		res.Body.Close()
		fmt.Println("fetched", res.StatusCode)
	}
}

func port() string {
	if p := os.Getenv("PORT"); p != "" {
		return p
	}
	return "80"
}

func serve() {
	host, _ := os.Hostname()
	name := os.Getenv("NAME")
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s\n", name, host, os.Getenv("ECS_CONTAINER_METADATA_URI_V4"))
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.URL.Query().Get("for"))
		time.Sleep(d)
		fmt.Fprintln(w, "slow done")
	})
	mux.HandleFunc("/stats", func(w http.ResponseWriter, r *http.Request) { // what the metadata endpoint counts of this container
		res, err := http.Get(os.Getenv("ECS_CONTAINER_METADATA_URI_V4") + "/stats")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		_, _ = io.Copy(w, res.Body)
	})
	mux.HandleFunc("/from", func(w http.ResponseWriter, r *http.Request) { // who asks
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, from)
	})
	mux.HandleFunc("/ask", func(w http.ResponseWriter, r *http.Request) { // asks another, and says what that says
		client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}} // each time by its name
		res, err := client.Get(r.URL.Query().Get("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		_, _ = io.Copy(w, res.Body)
	})
	srv := &http.Server{Addr: ":" + port(), Handler: mux}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	if os.Getenv("IGNORE_TERM") != "" {
		ctx = context.Background() // the signal is taken, and nothing comes of it
	}
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		fmt.Println("got SIGTERM")
		_ = srv.Shutdown(context.Background())
	}()
	fmt.Println("listening on", srv.Addr)
	for i := range 3 {
		fmt.Fprintln(os.Stderr, "line", i)
	}
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Println(err)
		os.Exit(1)
	}
	<-done
	if code, err := strconv.Atoi(os.Getenv("TERM_EXIT")); err == nil {
		os.Exit(code)
	}
}

// stamps writes lines of nanoseconds, one each 10 ms. The clock is that of the kernel, and so the same on all machines that share it.
func stamps(dir string) {
	meta := os.Getenv("ECS_CONTAINER_METADATA_URI_V4")
	id, _, _ := strings.Cut(meta[strings.LastIndexByte(meta, '/')+1:], "-")
	f, err := os.OpenFile(filepath.Join(dir, id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Fprintln(f, now.Nano())
		time.Sleep(10 * time.Millisecond)
	}
}

// eat takes memory until the kernel ends it.
func eat() {
	var all [][]byte
	for {
		b := make([]byte, 8<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
		runtime.KeepAlive(all)
	}
}
