package grpc

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
)

// envelope is a message as it is sent: assignments carry their definitions by reference.
type envelope struct {
	nodelink.Message
	// Definitions are those that this side sends for the first time while the other side has a task of it.
	Definitions map[string]*types.TaskDefinition
}

// definitions are those that both sides know: those of the tasks that the node has. Each side keeps its own, by the same messages.
type definitions struct {
	tasks map[string]string // the definition of a task, by the task's id
	known map[string]*known
}

type known struct {
	tasks      int // that have it
	definition *types.TaskDefinition
}

func newDefinitions() *definitions {
	return &definitions{tasks: map[string]string{}, known: map[string]*known{}}
}

func keyOf(t *model.Task) string { return model.TaskDefinitionKey(t.Family, t.Revision) }

// begin notes what a message takes away before it adds.
func (d *definitions) begin(a *nodelink.Assignments) {
	if a.Full {
		*d = *newDefinitions()
	}
}

// hold notes that the node has the task, and tells whether its definition is known already.
func (d *definitions) hold(task, key string) (k *known, have bool) {
	if d.tasks[task] == key {
		return d.known[key], true
	}
	d.drop(task)
	d.tasks[task] = key
	if k, have = d.known[key]; !have {
		k = &known{}
		d.known[key] = k
	}
	k.tasks++
	return k, have
}

// drop notes that the node has the task no more.
func (d *definitions) drop(task string) {
	key, ok := d.tasks[task]
	if !ok {
		return
	}
	delete(d.tasks, task)
	if k := d.known[key]; k != nil {
		if k.tasks--; k.tasks == 0 {
			delete(d.known, key)
		}
	}
}

// encode makes the bytes of a message.
func (d *definitions) encode(m nodelink.Message) ([]byte, error) {
	e := envelope{Message: m}
	if m.Assignments != nil {
		a := *m.Assignments
		d.begin(&a)
		a.Put = make([]model.Assignment, len(m.Assignments.Put))
		for i, p := range m.Assignments.Put {
			key := keyOf(p.Task)
			if _, have := d.hold(p.Task.ID, key); !have {
				if e.Definitions == nil {
					e.Definitions = map[string]*types.TaskDefinition{}
				}
				e.Definitions[key] = &m.Assignments.Put[i].Definition
			}
			p.Definition = types.TaskDefinition{}
			a.Put[i] = p
		}
		for _, id := range a.Remove {
			d.drop(id)
		}
		e.Assignments = &a
	}
	return model.EncodeRow(e)
}

// decode reads what encode made.
func (d *definitions) decode(data []byte) (nodelink.Message, error) {
	var e envelope
	if err := model.DecodeJSON(data, &e); err != nil {
		return nodelink.Message{}, fmt.Errorf("a message that cannot be read: %w", err)
	}
	a := e.Assignments
	if a == nil {
		return e.Message, nil
	}
	d.begin(a)
	for i := range a.Put {
		p := &a.Put[i]
		if p.Task == nil {
			return nodelink.Message{}, fmt.Errorf("an assignment without a task")
		}
		key := keyOf(p.Task)
		k, have := d.hold(p.Task.ID, key)
		if !have {
			k.definition = e.Definitions[key]
		}
		if k.definition == nil {
			return nodelink.Message{}, fmt.Errorf("the definition %s of task %s was never sent", key, p.Task.ID)
		}
		p.Definition = *k.definition
	}
	for _, id := range a.Remove {
		d.drop(id)
	}
	return e.Message, nil
}
