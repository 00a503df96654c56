package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berthdev/berth/internal/api/wire"
)

// TestTwoServicesOfOneWord: a service that would silently take another's requests is refused when the endpoint is made.
func TestTwoServicesOfOneWord(t *testing.T) {
	for _, c := range []struct {
		what     string
		services []wire.Service
		refused  string // "" for none
	}{
		{"targets", []wire.Service{{Name: "ssm", Target: "AmazonSSM"}, {Name: "ssm", Target: "AmazonSSM"}}, `ssm and ssm have one target, "AmazonSSM"`},
		{"targets of two versions of JSON", []wire.Service{{Name: "a", Target: "T"}, {Name: "b", Target: "T", Protocol: wire.JSON10}}, `a and b have one target, "T"`},
		{"shapes", []wire.Service{{Name: "a", Shape: "S", Protocol: wire.Query}, {Name: "b", Shape: "S", Protocol: wire.Query}}, `a and b have one shape, "S"`},
		{"a shape and a target", []wire.Service{{Name: "a", Shape: "S", Protocol: wire.Query}, {Name: "b", Target: "S"}}, `a and b have one target, "S"`},
		{"names of query services", []wire.Service{{Name: "iam", Protocol: wire.Query}, {Name: "iam", Protocol: wire.EC2Query}}, `iam and iam have one name, "iam"`},
		{"names of a query and a REST service", []wire.Service{{Name: "s3", Protocol: wire.Query}, {Name: "s3", Protocol: wire.RESTXML}}, `s3 and s3 have one name, "s3"`},
		{"one signing name, two targets", []wire.Service{{Name: "dynamodb", Target: "DynamoDB"}, {Name: "dynamodb", Target: "DynamoDBStreams"}}, ""},
		{"a service whose shape is its target", []wire.Service{{Name: "a", Shape: "T", Target: "T"}, {Name: "b", Target: "U"}}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			defer func() {
				said := recover()
				if got := fmt.Sprint(said); c.refused == "" && said != nil || !strings.HasSuffix(got, c.refused) && c.refused != "" {
					t.Errorf("it says %q, want %q", got, c.refused)
				}
			}()
			var all []*wire.Service
			for i := range c.services {
				all = append(all, &c.services[i])
			}
			wire.NewEndpoint(wire.Config{Services: all})
		})
	}
}
