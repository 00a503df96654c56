package sim

import (
	"errors"
	"fmt"
	"strings"

	smithy "github.com/aws/smithy-go"
)

// Run runs a script and returns it with what was printed in the place of what was expected. A script is blocks of command lines,
// a line of four dashes, and the output of these commands up to an empty line. Lines that begin with # are comments.
//
// An error of a command is output too ("error: …"); only a broken promise of the cluster's ends the script.
func (c *Cluster) Run(script string) (string, error) {
	var out strings.Builder
	var printed []string
	skipping := false // what was expected last time
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		switch {
		case skipping:
			if skipping = line != ""; !skipping {
				out.WriteByte('\n')
			}
		case line == "----":
			out.WriteString("----\n" + strings.Join(printed, ""))
			printed, skipping = nil, true
		case line == "" || strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
		default:
			out.WriteString(line + "\n")
			text, err := c.Do(line)
			if err != nil {
				if broken := c.settle(); broken != nil {
					return out.String(), fmt.Errorf("%s: %w", line, broken)
				}
				text = "error: " + c.short(refusal(err)) + "\n"
			}
			printed = append(printed, text)
		}
	}
	if len(printed) > 0 {
		return out.String(), fmt.Errorf("the last commands have no line of four dashes after them")
	}
	return strings.TrimRight(out.String(), "\n") + "\n", nil
}

// refusal is an error without what differs each time, such as the id of the request.
func refusal(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	return err.Error()
}
