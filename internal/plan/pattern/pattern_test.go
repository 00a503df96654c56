package pattern

import (
	"strings"
	"testing"
)

const event = `{"version":"0","id":"x","detail-type":"ECS Task State Change","source":"aws.ecs","account":"000000000000","region":"us-east-1",
"resources":["arn:aws:ecs:us-east-1:000000000000:task/shop/1"],"detail":{"clusterArn":"arn:aws:ecs:us-east-1:000000000000:cluster/shop","lastStatus":"STOPPED","version":7,
"containers":[{"name":"web","exitCode":1},{"name":"side","exitCode":0}],"group":"service:web","ip":"10.1.2.3","spot":false,"none":null,"empty":[],"price":1.5}}`

func TestMatch(t *testing.T) {
	for text, want := range map[string]bool{
		`{"source":["aws.ecs"]}`: true,
		`{"source":["aws.ec2","aws.ecs"],"detail-type":["ECS Task State Change"]}`: true,
		`{"source":["aws.ec2"]}`: false,
		`{"detail":{"lastStatus":["STOPPED"],"containers":{"exitCode":[1]}}}`:                  true,
		`{"detail":{"containers":{"exitCode":[2]}}}`:                                           false,
		`{"detail":{"containers":{"exitCode":[{"anything-but":0}]}}}`:                          true,
		`{"resources":[{"prefix":"arn:aws:ecs"}]}`:                                             true,
		`{"resources":[{"suffix":"/2"}]}`:                                                      false,
		`{"detail":{"group":[{"prefix":"service:"}]}}`:                                         true,
		`{"detail":{"group":[{"anything-but":{"prefix":"service:"}}]}}`:                        false,
		`{"detail":{"group":[{"anything-but":["a","b"]}]}}`:                                    true,
		`{"detail":{"group":[{"equals-ignore-case":"SERVICE:WEB"}]}}`:                          true,
		`{"detail":{"group":[{"wildcard":"s*:w*b"}]}}`:                                         true,
		`{"detail":{"group":[{"wildcard":"s*:x*"}]}}`:                                          false,
		`{"detail":{"version":[{"numeric":[">",5,"<=",7]}]}}`:                                  true,
		`{"detail":{"version":[{"numeric":["<",7]}]}}`:                                         false,
		`{"detail":{"version":[7.0]}}`:                                                         true,
		`{"detail":{"price":[{"numeric":["=",1.5]}]}}`:                                         true,
		`{"detail":{"ip":[{"cidr":"10.0.0.0/8"}]}}`:                                            true,
		`{"detail":{"ip":[{"cidr":"192.168.0.0/16"}]}}`:                                        false,
		`{"detail":{"missing":[{"exists":false}]}}`:                                            true,
		`{"detail":{"missing":{"deeper":[{"exists":false}]}}}`:                                 true,
		`{"detail":{"missing":[{"anything-but":"x"}]}}`:                                        false,
		`{"detail":{"group":[{"exists":true}]}}`:                                               true,
		`{"detail":{"spot":[false],"none":[null]}}`:                                            true,
		`{"detail":{"empty":[{"exists":false}]}}`:                                              true,
		`{"$or":[{"source":["x"]},{"detail":{"lastStatus":["STOPPED"]}}]}`:                     true,
		`{"$or":[{"source":["x"]},{"detail":{"lastStatus":["RUNNING"]}}]}`:                     false,
		`{"detail":{"group":[{"prefix":{"equals-ignore-case":"SERV"}}]}}`:                      true,
		`{"source":["aws.ecs"],"detail":{"lastStatus":[{"anything-but":"STOPPED"}]}}`:          false,
		`{"detail":{"containers":{"name":["web"]},"clusterArn":[{"suffix":":cluster/shop"}]}}`: true,
	} {
		p, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := p.Match([]byte(event)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, bad := range []string{"", "{}", "[]", `{"a":1}`, `{"a":[]}`, `{"a":{}}`, `{"a":[{"x":1}]}`, `{"a":[{"prefix":1}]}`, `{"a":[{"numeric":["<"]}]}`, `{"a":[{"numeric":["!",1]}]}`, `{"a":[[1]]}`,
		`{"a":[{"cidr":"x"}]}`, `{"a":[{"exists":1}]}`, `{"$or":[]}`, `{"$or":[1,2]}`, `{"a":["b"]} x`, `{"a":[{"anything-but":[]}]}`, `{"a":[{"anything-but":{"numeric":1}}]}`, `{"a":[{"wildcard":"a**b"}]}`,
		strings.Repeat(`{"a":`, 40) + `["b"]` + strings.Repeat("}", 40), `{"a":["` + strings.Repeat("x", 5000) + `"]}`} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%.60s is taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"source":["aws.ecs"],"detail":{"version":[{"numeric":[">",5]}],"x":[{"anything-but":{"prefix":"y"}}]}}`, event)
	f.Add(`{"$or":[{"a":[{"wildcard":"*x*"}]},{"b":[{"exists":false}]}]}`, `{"a":[1,{"b":2}]}`)
	f.Fuzz(func(t *testing.T, text, event string) {
		if p, err := Parse(text); err == nil {
			p.Match([]byte(event))
		}
	})
}
