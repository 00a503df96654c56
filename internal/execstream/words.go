package execstream

import (
	"errors"
	"strings"
)

// ErrQuote says that a command line's quotation does not end.
var ErrQuote = errors.New("a quotation in the command is not closed")

// Split reads a command line as a shell's words, without any of a shell's expansions: what ECS does with ExecuteCommand's command.
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	open, quote, escaped := false, rune(0), false
	for _, c := range line {
		switch {
		case escaped:
			if quote == '"' && c != '"' && c != '\\' && c != '$' && c != '`' && c != '\n' {
				word.WriteByte('\\')
			}
			if c != '\n' {
				word.WriteRune(c)
			}
			escaped = false
		case c == '\\' && quote != '\'':
			open, escaped = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			open, quote = true, c
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			open = true
			word.WriteRune(c)
		}
	}
	if quote != 0 || escaped {
		return nil, ErrQuote
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}

// Join makes a command line of words, such that Split makes the same words of it.
func Join(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsFunc(w, func(c rune) bool { return !plain(c) }) {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func plain(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_./:=@%+,", c)
}
