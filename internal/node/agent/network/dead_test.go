package network_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent"
)

// Who speaks to a task whose network is gone, as a load balancer whose table is a moment old does, is told at once.
func TestADeadTaskRefusesAtOnce(t *testing.T) {
	n, _ := open(t, 0)
	info := setup(t, n, agent.NetworkSpec{ID: "a", Mode: types.NetworkModeAwsvpc})
	other := setup(t, n, agent.NetworkSpec{ID: "b", Mode: types.NetworkModeAwsvpc})
	inside(t, info.NetnsPath, func() error { // it accepts, and never answers
		l, err := net.Listen("tcp4", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		return nil
	})
	conn, err := net.DialTimeout("tcp4", info.IPv4+":80", 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := n.Teardown(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	at := func(what string, begun time.Time) {
		t.Helper()
		if d := time.Since(begun); d > time.Second {
			t.Errorf("%s was told after %v", what, d)
		}
	}
	begun := time.Now()
	conn.SetDeadline(begun.Add(5 * time.Second))
	conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a task that is gone answers")
	}
	at("a connection", begun)
	begun = time.Now()
	if c, err := net.DialTimeout("tcp4", info.IPv4+":80", 5*time.Second); err == nil {
		c.Close()
		t.Error("a task that is gone is connected to")
	}
	at("a new connection", begun)
	begun = time.Now()
	if _, err := dialInside(t, other.NetnsPath, info.IPv4+":80"); err == nil {
		t.Error("a task reaches one that is gone")
	}
	at("another task", begun)
}
