package grpc

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
)

func assignment(id string, revision int) model.Assignment {
	return model.Assignment{Task: &model.Task{ID: id, Family: "web", Revision: revision},
		Definition: types.TaskDefinition{Family: new("web"), Revision: int32(revision), ContainerDefinitions: []types.ContainerDefinition{{Name: new("main")}}}}
}

// TestDefinitionsAreSentOnce: as long as the node has a task of it; both sides forget it with the last.
func TestDefinitionsAreSentOnce(t *testing.T) {
	told, heard := newDefinitions(), newDefinitions()
	for i, step := range []struct {
		a    nodelink.Assignments
		sent int // definitions
	}{
		{nodelink.Assignments{Full: true, Put: []model.Assignment{assignment("a", 1), assignment("b", 1), assignment("c", 2)}, More: true}, 2},
		{nodelink.Assignments{Put: []model.Assignment{assignment("d", 2), assignment("a", 1)}}, 0},
		{nodelink.Assignments{Remove: []string{"a"}}, 0},
		{nodelink.Assignments{Put: []model.Assignment{assignment("e", 1)}, Remove: []string{"b", "e", "unknown"}}, 0},
		{nodelink.Assignments{Put: []model.Assignment{assignment("f", 1)}}, 1},
		{nodelink.Assignments{Full: true, Put: []model.Assignment{assignment("c", 2)}}, 1},
	} {
		data, err := told.encode(nodelink.Message{Assignments: &step.a})
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(data, []byte(`"ContainerDefinitions"`)); n != step.sent {
			t.Errorf("step %d: %d definitions were sent, want %d", i, n, step.sent)
		}
		m, err := heard.decode(data)
		if err != nil {
			t.Fatal(err)
		}
		for j, p := range m.Assignments.Put {
			if p.Definition.Revision != int32(p.Task.Revision) || p.Task.ID != step.a.Put[j].Task.ID || *p.Definition.ContainerDefinitions[0].Name != "main" {
				t.Errorf("step %d: task %s came with definition %d", i, p.Task.ID, p.Definition.Revision)
			}
		}
		if step.a.More != m.Assignments.More || len(step.a.Remove) != len(m.Assignments.Remove) {
			t.Errorf("step %d: %+v became %+v", i, step.a, *m.Assignments)
		}
		if a, b := fmt.Sprint(len(told.tasks), len(told.known)), fmt.Sprint(len(heard.tasks), len(heard.known)); a != b {
			t.Errorf("step %d: the sides know %s and %s", i, a, b)
		}
	}
}

// TestEveryMessageArrives: what is sent is what is read.
func TestEveryMessageArrives(t *testing.T) {
	at := time.Date(2026, 11, 21, 17, 0, 0, 5, time.UTC)
	for _, m := range []nodelink.Message{
		{Hello: &nodelink.Hello{Declaration: model.Declaration{Hostname: "h", CPU: 1024, Clusters: []string{}, Attributes: map[string]string{"a": "b"}},
			Seen: nodelink.Seen{Incarnation: "i", Epoch: 3}}},
		{Welcome: &nodelink.Welcome{Seen: nodelink.Seen{Incarnation: "i", Epoch: 3}}},
		{Refused: &nodelink.Refused{Reason: "why", RetryAfter: time.Second}},
		{Servers: &nodelink.Servers{Addresses: []string{"a:1"}, Spread: time.Minute}},
		{Reports: &nodelink.Reports{Epoch: 1, Batch: 2, Items: []model.Report{{TaskID: "t", Observed: model.Observed{Seq: 3, Status: model.Running, StartedAt: at}}}}},
		{Ack: &nodelink.Ack{}},
		{Heartbeat: &nodelink.Heartbeat{Epoch: 1, Revision: 1 << 63}},
	} {
		data, err := newDefinitions().encode(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := newDefinitions().decode(data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := newDefinitions().encode(got)
		if err != nil || !bytes.Equal(data, again) || len(data) < 5 {
			t.Errorf("%s became %s (%v)", data, again, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Assignments":{"Put":[{"Task":{"ID":"a","Family":"f","Revision":1}}]},"Definitions":{"f:1":{}}}`))
	f.Add([]byte(`{"Assignments":{"Put":[{}]}}`))
	f.Add([]byte(`{"Definitions":{"f:1":null}}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		d := newDefinitions()
		for range 2 {
			if m, err := d.decode(data); err == nil && m.Assignments != nil {
				_, _ = newDefinitions().encode(m)
			}
		}
	})
}

// line is a stream in memory: what one side sends the other reads.
type line chan []byte

func (l line) SendMsg(m any) error {
	l <- m.(*wrapperspb.BytesValue).Value
	return nil
}

func (l line) RecvMsg(m any) error {
	m.(*wrapperspb.BytesValue).Value = <-l
	return nil
}

// TestFrames: a message larger than a frame is cut, and one that is too large is refused by either side.
func TestFrames(t *testing.T) {
	l := make(line, 1000)
	c := newConn(l, func() {})
	big := assignment("a", 1)
	big.Definition.ContainerDefinitions[0].Command = []string{strings.Repeat("x", 3*frameBytes)}
	if err := c.Send(t.Context(), nodelink.Message{Assignments: &nodelink.Assignments{Full: true, Put: []model.Assignment{big}}}); err != nil {
		t.Fatal(err)
	}
	if len(l) != 4 {
		t.Errorf("%d frames", len(l))
	}
	m, err := c.Recv(t.Context())
	if err != nil || len(m.Assignments.Put[0].Definition.ContainerDefinitions[0].Command[0]) != 3*frameBytes {
		t.Errorf("it came as %v, %v", m, err)
	}
	big.Definition.ContainerDefinitions[0].Command = []string{strings.Repeat("x", messageBytes)}
	if err := c.Send(t.Context(), nodelink.Message{Assignments: &nodelink.Assignments{Full: true, Put: []model.Assignment{big}}}); err == nil || len(l) > 0 {
		t.Errorf("too large a message: %v, %d frames", err, len(l))
	}
	for range messageBytes/frameBytes + 1 {
		l <- append([]byte{frameMore}, make([]byte, frameBytes)...)
	}
	if _, err := c.Recv(t.Context()); err == nil {
		t.Error("a message without end was read")
	}
}
