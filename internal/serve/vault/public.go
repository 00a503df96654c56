package vault

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/berthdev/berth/internal/model"
)

// AWS's public parameters that modules read. Berth has no machine images: the ids are of a form that clients accept, and stand for nothing.

// recommended are the images of ECS's machines, by the path between /aws/service/ecs/optimized-ami/ and /recommended.
var recommended = map[string]string{
	"amazon-linux": "Amazon Linux", "amazon-linux-2": "Amazon Linux 2", "amazon-linux-2/arm64": "Amazon Linux 2", "amazon-linux-2/gpu": "Amazon Linux 2",
	"amazon-linux-2/inf": "Amazon Linux 2", "amazon-linux-2/kernel-5.10": "Amazon Linux 2", "amazon-linux-2/kernel-5.10/arm64": "Amazon Linux 2",
	"amazon-linux-2023": "Amazon Linux 2023", "amazon-linux-2023/arm64": "Amazon Linux 2023", "amazon-linux-2023/gpu": "Amazon Linux 2023",
	"amazon-linux-2023/neuron": "Amazon Linux 2023",
}

const fluentBit = "906394416424.dkr.ecr.%s.amazonaws.com/aws-for-fluent-bit:%s"

// publicSince is when they were last modified.
var publicSince = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// public are the values by name.
func public(region string) map[string]string {
	all := map[string]string{}
	for _, tag := range []string{"stable", "latest", "2.32.0", "2.31.12", "3.0.0"} {
		all["/aws/service/aws-for-fluent-bit/"+tag] = fmt.Sprintf(fluentBit, region, tag)
	}
	for i, path := range slices.Sorted(maps.Keys(recommended)) {
		id, name := fmt.Sprintf("ami-0be47%012x", i+1), "al2023-ami-ecs-hvm-2023.0.20261101-kernel-6.1-x86_64"
		base := "/aws/service/ecs/optimized-ami/" + path + "/recommended"
		all[base] = fmt.Sprintf(`{"ecs_agent_version":"1.100.0","ecs_runtime_version":"Docker version 25.0.13","image_id":"%s","image_name":"%s",`+
			`"image_version":"2023.0.20261101","os":"%s","schema_version":1,"source_image_name":"al2023-ami-minimal-2023"}`, id, name, recommended[path])
		all[base+"/image_id"], all[base+"/image_name"], all[base+"/os"], all[base+"/ecs_agent_version"] = id, name, recommended[path], "1.100.0"
		all[base+"/ecs_runtime_version"], all[base+"/image_version"], all[base+"/schema_version"] = "Docker version 25.0.13", "2023.0.20261101", "1"
	}
	for i, name := range []string{"al2023-ami-kernel-default-x86_64", "al2023-ami-kernel-default-arm64", "al2023-ami-minimal-kernel-default-x86_64",
		"amzn2-ami-hvm-x86_64-gp2", "amzn2-ami-kernel-5.10-hvm-x86_64-gp2"} {
		all["/aws/service/ami-amazon-linux-latest/"+name] = fmt.Sprintf("ami-0be48%012x", i+1)
	}
	return all
}

// PublicParameter is one of AWS's, by its name or its ARN; nil: there is none of that name.
func (v *Vault) PublicParameter(name string) *types.Parameter {
	name = strings.TrimPrefix(name, "arn:"+model.Partition+":ssm:"+v.Scope.Region+"::parameter")
	if !strings.HasPrefix(name, "/aws/service/") {
		return nil
	}
	value, ok := public(v.Scope.Region)[name]
	if !ok {
		return nil
	}
	return v.drawPublic(name, value)
}

func (v *Vault) drawPublic(name, value string) *types.Parameter {
	return &types.Parameter{ARN: new("arn:" + model.Partition + ":ssm:" + v.Scope.Region + "::parameter" + name), Name: &name, DataType: new("text"),
		LastModifiedDate: &publicSince, Type: types.ParameterTypeString, Value: &value, Version: 1}
}

// PublicParameters are those whose names begin with prefix, in the order of their names.
func (v *Vault) PublicParameters(prefix string) iter.Seq[*types.Parameter] {
	return func(yield func(*types.Parameter) bool) {
		all := public(v.Scope.Region)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(name, prefix) && !yield(v.drawPublic(name, all[name])) {
				return
			}
		}
	}
}
