package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
)

// pushSize is how much one upload carries.
const pushSize = 256 << 20

// BenchmarkAPIPath compares requests through the proxy with the same ones straight at the server's socket, in turns: an upload of
// 256 MiB to the registry, its download, and a small call.
func BenchmarkAPIPath(b *testing.B) {
	be := start(b)
	ctx := context.Background()
	registry := ecr.NewFromConfig(be.config())
	if _, err := registry.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: aws.String("bench")}); err != nil {
		b.Fatal(err)
	}
	token, err := registry.GetAuthorizationToken(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	login := "Basic " + *token.AuthorizationData[0].AuthorizationToken
	blob := make([]byte, pushSize)
	rand.Read(blob)
	socket := "/run/berth/" + be.instanceID() + "/api.sock"
	address := fmt.Sprintf("127.0.0.1:%d", be.port)
	variants := []struct {
		name               string
		client             *http.Client
		up, down, smallest time.Duration
	}{
		{name: "server", client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				c, err := net.Dial("unix", socket)
				if err == nil {
					_, err = io.WriteString(c, "berth1 127.0.0.1:1 "+address+"\n")
				}
				return c, err
			}}}},
		{name: "proxy", client: &http.Client{}},
	}
	for b.Loop() {
		for round := range 4 {
			for i := range variants {
				v := &variants[i]
				blob[0], blob[1] = byte(round), byte(i) // a blob that is there is not sent again
				up, down := be.upload(v.client, login, blob)
				began := time.Now()
				for range 100 {
					res, err := v.client.Get("http://" + address + "/v2/")
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if round > 0 { // the first warms up
					v.up, v.down, v.smallest = v.up+up/3, v.down+down/3, v.smallest+time.Since(began)/300
				}
			}
		}
	}
	for _, v := range variants {
		b.Logf("%s: push %.0f MiB/s, pull %.0f MiB/s, a small request %s", v.name, pushSize/float64(1<<20)/v.up.Seconds(),
			pushSize/float64(1<<20)/v.down.Seconds(), v.smallest.Round(time.Microsecond))
	}
	b.ReportMetric(variants[1].up.Seconds()/variants[0].up.Seconds(), "push/direct")
	b.ReportMetric(variants[1].down.Seconds()/variants[0].down.Seconds(), "pull/direct")
}

// upload pushes a blob in one request and reads it again.
func (b *berth) upload(client *http.Client, login string, blob []byte) (up, down time.Duration) {
	b.t.Helper()
	base := fmt.Sprintf("http://127.0.0.1:%d", b.port)
	do := func(method, where string, body io.Reader) *http.Response {
		b.t.Helper()
		req, err := http.NewRequest(method, where, body)
		if err != nil {
			b.t.Fatal(err)
		}
		req.Header.Set("Authorization", login)
		res, err := client.Do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		if res.StatusCode >= 300 {
			b.t.Fatalf("%s %s: %s", method, where, res.Status)
		}
		return res
	}
	res := do("POST", base+"/v2/bench/blobs/uploads/", nil)
	res.Body.Close()
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil {
		b.t.Fatal(err)
	}
	sum := sha256.Sum256(blob)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	query := to.Query()
	query.Set("digest", digest)
	began := time.Now()
	res = do("PUT", base+to.Path+"?"+query.Encode(), bytes.NewReader(blob))
	res.Body.Close()
	up = time.Since(began)
	began = time.Now()
	res = do("GET", base+"/v2/bench/blobs/"+digest, nil)
	n, err := io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if err != nil || n != int64(len(blob)) {
		b.t.Fatalf("%d bytes came back: %v", n, err)
	}
	return up, time.Since(began)
}
