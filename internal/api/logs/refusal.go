package logs

import (
	"errors"
	"fmt"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
)

// refusal turns the store's errors into AWS's, with AWS's texts (the full stops are where AWS has them).
func refusal(err error) error {
	switch {
	case errors.Is(err, logstore.ErrNoGroup):
		return model.Errorf("ResourceNotFoundException", "The specified log group does not exist.")
	case errors.Is(err, logstore.ErrNoStream):
		return model.Errorf("ResourceNotFoundException", "The specified log stream does not exist.")
	case errors.Is(err, logstore.ErrGroupExists):
		return model.Errorf("ResourceAlreadyExistsException", "The specified log group already exists")
	case errors.Is(err, logstore.ErrStreamExists):
		return model.Errorf("ResourceAlreadyExistsException", "The specified log stream already exists")
	case errors.Is(err, logstore.ErrProtected):
		return model.Errorf("ValidationException", "The log group is protected from deletion; "+
			"turn that off with PutLogGroupDeletionProtection first.")
	case errors.Is(err, logstore.ErrDiskFull):
		return model.Errorf("ServiceUnavailableException", "Logs cannot be stored: %v.", err)
	case errors.Is(err, logstore.ErrClosed):
		return model.Errorf("ServiceUnavailableException", "Berth is shutting down.")
	}
	return err
}

func invalid(format string, args ...any) error {
	return model.Errorf("InvalidParameterException", format, args...)
}

// invalidValue is AWS's text for a value that breaks a constraint of the model.
func invalidValue(value, member, constraint string) error {
	return invalid("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", value, member, constraint)
}

func missing(member string) error {
	return invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
}

func checkGroup(name *string) error {
	switch {
	case name == nil:
		return missing("logGroupName")
	case *name == "":
		return invalidValue("", "logGroupName", "Member must have length greater than or equal to 1")
	case len(*name) > 512:
		return invalidValue(*name, "logGroupName", "Member must have length less than or equal to 512")
	case logstore.CheckGroupName(*name) != nil:
		return invalidValue(*name, "logGroupName", `Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+`)
	}
	return nil
}

func checkStream(name *string) error {
	switch {
	case name == nil:
		return missing("logStreamName")
	case *name == "":
		return invalidValue("", "logStreamName", "Member must have length greater than or equal to 1")
	case len(*name) > 512:
		return invalidValue(*name, "logStreamName", "Member must have length less than or equal to 512")
	case logstore.CheckStreamName(*name) != nil:
		return invalidValue(*name, "logStreamName", `Member must satisfy regular expression pattern: [^:*]*`)
	}
	return nil
}

func checkNames(group, stream *string) error {
	if err := checkGroup(group); err != nil {
		return err
	}
	return checkStream(stream)
}

// limitOf checks a page size and fills in the default, which is also the most.
func limitOf(limit *int32, most int) (int, error) {
	switch {
	case limit == nil:
		return most, nil
	case *limit < 1:
		return 0, invalidValue(fmt.Sprint(*limit), "limit", "Member must have value greater than or equal to 1")
	case int(*limit) > most:
		return 0, invalidValue(fmt.Sprint(*limit), "limit", fmt.Sprintf("Member must have value less than or equal to %d", most))
	}
	return int(*limit), nil
}

func badToken() error { return invalid("The specified nextToken is invalid.") }
