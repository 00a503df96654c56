package events

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/outbox"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// The kinds of deliveries that targets make, beside http.
const (
	KindCall = "aws" // an operation of one of the APIs: parameters service, operation and role
	KindLogs = "logs"
)

// Invocation is one run of a target.
type Invocation struct {
	Source string    // the rule's or the schedule's ARN
	Key    string    // tells it from all others: the rule, the target and the tick or event
	Order  string    // those of one order are done one after another; "" is none
	At     time.Time // of the tick or the event
	Event  string    // JSON
	Until  time.Time // not tried after this; zero: for as long as is usual
	Most   int       // attempts; 0: any number
}

// TargetKind tells what an ARN is, as a target: ecs, logs, sns, http, or "" for what Berth does not serve.
func TargetKind(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if _, ok := outbox.WebhookURL(arn); ok {
		return "http"
	}
	if len(parts) < 6 || parts[0] != "arn" {
		return ""
	}
	switch {
	case parts[2] == "ecs" && strings.HasPrefix(parts[5], "cluster/"):
		return "ecs"
	case parts[2] == "logs" && strings.HasPrefix(parts[5], "log-group:"):
		return "logs"
	case parts[2] == "sns" && !strings.Contains(parts[5], ":"):
		return "sns"
	}
	return ""
}

// invoke puts a target's run into the outbox.
func (e *Engine) invoke(tx store.Tx, t ebtypes.Target, startedBy string, i Invocation) error {
	payload, err := Payload(t, i.Event)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(i.Key + "\x00" + deref(t.Id)))
	id := hex.EncodeToString(sum[:])[:32]
	d := &model.Delivery{ID: outbox.ID(i.At, id), Target: deref(t.Arn), Source: i.Source, Created: i.At, Until: i.Until, Most: i.Most, Body: payload}
	if d.Until.IsZero() {
		d.Until = e.Now().Add(timeouts.DeliverUntil)
	}
	if i.Order != "" {
		d.Queue = i.Order + "\x00" + deref(t.Id)
	}
	switch TargetKind(*t.Arn) {
	case "ecs":
		body, err := runTask(t, payload, startedBy, id)
		if err != nil {
			return err
		}
		d.Kind, d.Body, d.Parameters = KindCall, body, map[string]string{"service": "ecs", "operation": "RunTask", "role": deref(t.RoleArn)}
		d.Queue = "" // tasks do not wait for each other
	case "logs":
		d.Kind = KindLogs
	case "sns":
		return e.Publish(tx, *t.Arn, payload, d.ID)
	case "http":
		url, _ := outbox.WebhookURL(*t.Arn)
		d.Kind, d.Target, d.Headers = "http", url, map[string]string{"Content-Type": "application/json; charset=UTF-8", "User-Agent": "Berth"}
	default:
		return fmt.Errorf("Berth does not know how to reach %s", *t.Arn)
	}
	if outbox.Put(tx, d) > 0 {
		return fmt.Errorf("too many deliveries wait already, or it is too large")
	}
	return nil
}

// runTask is the body of RunTask. token makes a repetition the same run.
func runTask(t ebtypes.Target, payload, startedBy, token string) (string, error) {
	p := t.EcsParameters
	if p == nil {
		return "", fmt.Errorf("the target %s has no EcsParameters", deref(t.Id))
	}
	definition := deref(p.TaskDefinitionArn)
	in := map[string]any{"cluster": *t.Arn, "taskDefinition": definition, "clientToken": token, "startedBy": cut(startedBy, 128), "count": 1}
	if p.TaskCount != nil {
		in["count"] = *p.TaskCount
	}
	var overrides map[string]any
	if json.Unmarshal([]byte(payload), &overrides) == nil {
		known := map[string]any{}
		for _, k := range []string{"containerOverrides", "cpu", "memory", "executionRoleArn", "taskRoleArn", "ephemeralStorage"} {
			if v, ok := overrides[k]; ok {
				known[k] = v
			}
		}
		if len(known) > 0 && t.Input != nil || len(known) > 0 && t.InputTransformer != nil {
			in["overrides"] = known
		}
	}
	if n := p.NetworkConfiguration; n != nil && n.AwsvpcConfiguration != nil {
		vpc := map[string]any{"subnets": n.AwsvpcConfiguration.Subnets, "securityGroups": n.AwsvpcConfiguration.SecurityGroups}
		if n.AwsvpcConfiguration.AssignPublicIp != "" {
			vpc["assignPublicIp"] = n.AwsvpcConfiguration.AssignPublicIp
		}
		in["networkConfiguration"] = map[string]any{"awsvpcConfiguration": vpc}
	}
	set := func(name string, v string) {
		if v != "" {
			in[name] = v
		}
	}
	set("launchType", string(p.LaunchType))
	set("group", deref(p.Group))
	set("platformVersion", deref(p.PlatformVersion))
	set("propagateTags", string(p.PropagateTags))
	set("referenceId", deref(p.ReferenceId))
	if p.EnableECSManagedTags {
		in["enableECSManagedTags"] = true
	}
	if p.EnableExecuteCommand {
		in["enableExecuteCommand"] = true
	}
	var strategy, constraints, placement, tags []map[string]any
	for _, s := range p.CapacityProviderStrategy {
		strategy = append(strategy, map[string]any{"capacityProvider": s.CapacityProvider, "weight": s.Weight, "base": s.Base})
	}
	for _, c := range p.PlacementConstraints {
		constraints = append(constraints, map[string]any{"type": c.Type, "expression": c.Expression})
	}
	for _, s := range p.PlacementStrategy {
		placement = append(placement, map[string]any{"type": s.Type, "field": s.Field})
	}
	for _, tag := range p.Tags {
		tags = append(tags, map[string]any{"key": tag.Key, "value": tag.Value})
	}
	for name, list := range map[string][]map[string]any{"capacityProviderStrategy": strategy, "placementConstraints": constraints, "placementStrategy": placement, "tags": tags} {
		if list != nil {
			in[name] = list
		}
	}
	b, err := json.Marshal(in)
	return string(b), err
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// Payload is what a target gets of an event: all of it, a part, a constant, or a text made of it.
func Payload(t ebtypes.Target, event string) (string, error) {
	switch {
	case t.Input != nil:
		return *t.Input, nil
	case t.InputPath != nil:
		v, err := Path(event, *t.InputPath)
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(v)
		return string(b), err
	case t.InputTransformer != nil:
		return transform(*t.InputTransformer, event)
	}
	return event, nil
}

var step = regexp.MustCompile(`^(?:\.([A-Za-z0-9_-]+)|\['([^']+)'\]|\["([^"]+)"\]|\[(\d+)\])`)

// Path reads a JSON path of fields and indexes: $.detail.containers[0].name.
func Path(event, path string) (v any, err error) {
	if err := json.Unmarshal([]byte(event), &v); err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return nil, fmt.Errorf("the path %.60q does not begin with $", path)
	}
	for rest != "" {
		m := step.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("the path %.60q cannot be read at %.20q", path, rest)
		}
		rest = rest[len(m[0]):]
		if m[4] != "" {
			i, _ := strconv.Atoi(m[4]) // too large is beyond any list
			list, _ := v.([]any)
			if v = nil; i < len(list) {
				v = list[i]
			}
			continue
		}
		o, _ := v.(map[string]any)
		v = o[m[1]+m[2]+m[3]]
	}
	return v, nil
}

// transform fills a template. Between quotes a text stands bare, elsewhere as JSON.
func transform(t ebtypes.InputTransformer, event string) (string, error) {
	out := deref(t.InputTemplate)
	var pairs []string
	add := func(name string, v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		plain := string(b)
		if _, ok := v.(string); ok {
			plain = string(b[1 : len(b)-1])
		}
		pairs = append(pairs, `"<`+name+`>"`, `"`+plain+`"`, "<"+name+">", string(b))
		return nil
	}
	for name, path := range t.InputPathsMap {
		v, err := Path(event, path)
		if err != nil {
			return "", err
		}
		if err := add(name, v); err != nil {
			return "", err
		}
	}
	if err := add("aws.events.event.json", json.RawMessage(event)); err != nil {
		return "", err
	}
	result := strings.NewReplacer(pairs...).Replace(inText(out, pairs))
	return result, nil
}

// inText fills in what stands within a longer text of the template.
func inText(template string, pairs []string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(template); i++ {
		c := template[i]
		if c == '\\' && i+1 < len(template) {
			b.WriteString(template[i : i+2])
			i++
			continue
		}
		if c == '"' {
			quoted = !quoted
		}
		if c == '<' && quoted {
			found := false
			for p := 2; p < len(pairs); p += 4 {
				if strings.HasPrefix(template[i:], pairs[p]) {
					b.WriteString(pairs[p-1][1 : len(pairs[p-1])-1])
					i += len(pairs[p]) - 1
					found = true
					break
				}
			}
			if found {
				continue
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
