package handout

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// maxFile bounds an environment file, bytes.
const maxFile = 1 << 20

func (g *gatherer) file(ctx context.Context, f types.EnvironmentFile) ([]model.Variable, error) {
	arn := value(f.Value)
	text, err := []byte(nil), errors.New("Berth serves no S3")
	if g.Object != nil {
		text, err = g.Object(ctx, arn, maxFile)
	}
	var all []model.Variable
	if err == nil {
		all, err = ParseFile(string(text))
	} else if g.Object != nil && passes(err) {
		return nil, err
	} else {
		err = errors.New(retried + "operation error S3: HeadObject, " + err.Error())
	}
	if err != nil {
		return nil, &model.TaskError{Name: "ResourceInitializationError", Message: "failed to download env files: " + err.Error()}
	}
	return all, nil
}

// ParseFile reads an environment file: a variable a line, NAME=VALUE; empty lines and those that begin with # are passed over.
func ParseFile(text string) (all []model.Variable, err error) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, errors.New("the environment file is not text in UTF-8")
	}
	text = strings.TrimPrefix(text, "\ufeff")
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if bare := strings.TrimSpace(line); bare == "" || strings.HasPrefix(bare, "#") {
			continue
		}
		name, v, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); ok && name != "" {
			all = append(all, model.Variable{Name: name, Value: v})
		}
	}
	return all, nil
}
