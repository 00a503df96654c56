package ecs

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// missing is the reason of a failure for what does not exist.
const missing = "MISSING"

func invalid(format string, args ...any) error {
	return model.Errorf("InvalidParameterException", format, args...)
}

// tooMany refuses a list of more than most elements; what names its elements.
func tooMany(what string, most int) error {
	return invalid("%s can have at most %d elements.", what, most)
}

func clientError(format string, args ...any) error {
	return model.Errorf("ClientException", format, args...)
}

func notYet(what string) error {
	return invalid("Berth does not support %s yet.", what)
}

func failure(arn, reason string) types.Failure {
	f := types.Failure{Reason: &reason}
	if arn != "" {
		f.Arn = &arn
	}
	return f
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func number(p *int32) int32 {
	if p == nil {
		return 0
	}
	return *p
}
