package model

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TaskDefinition is one revision of a family: the definition as normalised on registration, which holds its ARN, status and
// times. Written by the API.
type TaskDefinition struct {
	Family     string
	Revision   int
	Definition types.TaskDefinition
	Tags       []types.Tag
}

// Key is <family>:<revision>, the revision in ten digits so that keys sort as numbers do.
func (t *TaskDefinition) Key() string { return TaskDefinitionKey(t.Family, t.Revision) }

// TaskDefinitionKey is the store's key of a revision.
func TaskDefinitionKey(family string, revision int) string {
	return fmt.Sprintf("%s:%010d", family, revision)
}

// Family counts a family's revisions: a revision number is never given twice, even after deletion. Written by the API.
type Family struct {
	Name           string
	LatestRevision int
}

// Key is the family's name.
func (f *Family) Key() string { return f.Name }
