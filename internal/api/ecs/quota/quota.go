// Package quota is the one table of how many of something ECS lets there be, and of what it says to one more.
package quota

import (
	"strconv"
	"strings"

	"github.com/berthdev/berth/internal/model"
)

// Quota bounds a number. In Text {n} stands for what was asked for and {max} for the bound.
type Quota struct {
	Name   string
	Max    int
	Code   string
	Text   string
	Source string // of the number, and of the text where it is AWS's
}

const (
	reference = "AWS General Reference, Amazon ECS endpoints and quotas"
	invalid   = "InvalidParameterException"
	client    = "ClientException"
)

// The quotas. Those that AWS raises on request have their default here. AWS's bound of 5,000 container instances a cluster is not
// among them: nodes join clusters by membership, and no request of a client's adds one.
var (
	Clusters = Quota{"clusters of an account", 10_000, invalid, "The account has {max} clusters, which is the most there may be.", reference}
	Services = Quota{"services of a cluster", 5_000, invalid, "The cluster has {max} services, which is the most there may be.", reference}
	Tasks    = Quota{"tasks of a service", 5_000, invalid, "Desired count exceeds limit.",
		reference + "; text: aws/containers-roadmap#768"}
	Deployments = Quota{"deployments of a service that go on", 5, invalid,
		"{max} active deployments exist, unable to create new deployment.", "aws/containers-roadmap#2836"}
	TargetGroups = Quota{"target groups of a service", 5, invalid, "A service can have at most {max} target groups.", reference}

	Run            = Quota{"tasks of one RunTask", 10, invalid, "Count must be between 1 and {max}.", reference}
	Start          = Quota{"instances of one StartTask", 10, invalid, "Container instances must have between 1 and {max} elements.", "API reference, StartTask"}
	Subnets        = Quota{"subnets of an awsvpc configuration", 16, invalid, "subnets can have at most {max} items.", reference}
	SecurityGroups = Quota{"security groups of an awsvpc configuration", 5, invalid, "securityGroups can have at most {max} items.", reference}
	Constraints    = Quota{"placement constraints of a task", 10, invalid, "placementConstraints can have at most {max} items.", "API reference, RunTask"}
	Strategies     = Quota{"placement strategies of a task", 5, invalid, "placementStrategy can have at most {max} items.", "API reference, RunTask"}
	Overrides      = Quota{"characters of overrides", 8192, invalid, "Container Overrides length must be at most {max}",
		"API reference, RunTask; text: aws-samples/sample-autonomous-cloud-coding-agents#502"}

	Containers = Quota{"containers of a task definition", 10, client, "Too many containers.",
		reference + "; text: aws/amazon-ecs-cli#184"}
	Definition = Quota{"bytes of a task definition", 64 << 10, client, "Actual length: '{n}'. Max allowed length is '{max}' bytes.",
		reference + "; text: awsdocs/amazon-ecs-developer-guide#149"}
	Revisions = Quota{"revisions of a family", 1_000_000, client, "The family has {max} revisions, which is the most there may be.", reference}
	Tags      = Quota{"tags of a resource", 50, invalid, "A resource can have at most {max} tags.", reference}
)

// All lists the quotas.
func All() []Quota {
	return []Quota{Clusters, Services, Tasks, Deployments, TargetGroups, Run, Start, Subnets, SecurityGroups, Constraints, Strategies, Overrides,
		Containers, Definition, Revisions, Tags}
}

// Admit refuses n when that is more than there may be.
func (q Quota) Admit(n int) error {
	if n <= q.Max {
		return nil
	}
	return q.Refusal(n)
}

// Refusal is what is said to n, whatever the bound.
func (q Quota) Refusal(n int) error {
	return model.Errorf(q.Code, "%s", strings.NewReplacer("{n}", strconv.Itoa(n), "{max}", strconv.Itoa(q.Max)).Replace(q.Text))
}
