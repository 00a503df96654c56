// Command berth runs ECS, ECR and load balancers on your own machines. Where there is no Linux it is a client only.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/berthdev/berth/internal/client"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := client.Main(ctx, command(version), os.Args[1:])
	stop()
	os.Exit(code)
}
