// Router is a log router for tests: it speaks Fluentd's forward protocol on the socket that FireLens gives it, acknowledges, and prints
// what it gets.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	conf, err := os.ReadFile("/fluent-bit/etc/fluent-bit.conf")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("configuration of %d bytes\n", len(conf))
	_ = os.Remove("/var/run/fluent.sock")
	l, err := net.Listen("unix", "/var/run/fluent.sock")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go serve(c)
	}
}

func serve(c net.Conn) {
	defer c.Close()
	for {
		v, err := read(c)
		message, ok := v.([]any)
		if err != nil || !ok || len(message) != 3 {
			return
		}
		for _, e := range message[1].([]any) {
			record := e.([]any)[1].(map[string]any)
			fmt.Printf("routed %s %s %s\n", message[0], record["source"], record["log"])
		}
		chunk := message[2].(map[string]any)["chunk"].(string)
		answer := append([]byte{0x81, 0xa3}, "ack"...)
		if len(chunk) < 32 {
			answer = append(answer, 0xa0|byte(len(chunk)))
		} else {
			answer = append(answer, 0xd9, byte(len(chunk)))
		}
		if _, err := c.Write(append(answer, chunk...)); err != nil {
			return
		}
	}
}

// read reads the MessagePack that Berth writes.
func read(r io.Reader) (any, error) {
	number := func(n int) int {
		b := make([]byte, 4)
		if _, err := io.ReadFull(r, b[4-n:]); err != nil {
			return 0
		}
		return int(binary.BigEndian.Uint32(b))
	}
	text := func(n int) (any, error) {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return string(b), err
	}
	kind := byte(number(1))
	switch {
	case kind == 0xdd:
		all := make([]any, number(4))
		for i := range all {
			var err error
			if all[i], err = read(r); err != nil {
				return nil, err
			}
		}
		return all, nil
	case kind&0xf0 == 0x80 && kind != 0x80:
		all := map[string]any{}
		for range kind & 0x0f {
			k, err := read(r)
			v, err2 := read(r)
			name, ok := k.(string)
			if err := errors.Join(err, err2); err != nil || !ok {
				return nil, errors.Join(err, io.ErrUnexpectedEOF)
			}
			all[name] = v
		}
		return all, nil
	case kind&0xe0 == 0xa0:
		return text(int(kind & 0x1f))
	case kind == 0xd9:
		return text(number(1))
	case kind == 0xdb:
		return text(number(4))
	case kind == 0xce:
		return number(4), nil
	case kind == 0xd7:
		return text(9)
	}
	return nil, fmt.Errorf("byte %x", kind)
}
