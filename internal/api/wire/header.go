package wire

import (
	"encoding/base64"
	"reflect"
	"strings"
	"time"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
)

// splitHeader splits lists in headers at their commas; quoted values may hold some, and times of HTTP hold one each.
func splitHeader(lines []string, times bool) (all []string) {
	for _, line := range lines {
		for line != "" {
			var value string
			line = strings.TrimLeft(line, " \t")
			if strings.HasPrefix(line, `"`) {
				value, line = unquote(line[1:])
				_, line, _ = strings.Cut(line, ",")
				all = append(all, value)
				continue
			}
			value, line, _ = strings.Cut(line, ",")
			if times && strings.HasSuffix(line, " GMT") && !strings.ContainsAny(value, "0123456789") {
				var rest string
				rest, line, _ = strings.Cut(line, ",")
				value += "," + rest
			}
			all = append(all, strings.TrimSpace(value))
		}
	}
	return all
}

// unquote reads up to the closing quote; a backslash takes the character after it as it is.
func unquote(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// headerText is a value as a header has it: lists with commas, times as those of HTTP unless the model says otherwise.
func headerText(s *smithy.Schema, v reflect.Value) string {
	_, encoded := smithy.SchemaTrait[*traits.MediaType](s)
	switch {
	case v.Type() == timeType:
		format := "http-date"
		if f, ok := smithy.SchemaTrait[*traits.TimestampFormat](s); ok {
			format = f.Format
		}
		return formatTime(format, v.Interface().(time.Time))
	case v.Kind() == reflect.Slice && v.Type().Elem() == byteType:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case v.Kind() == reflect.Slice:
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = headerText(s.ListMember(), v.Index(i))
			if v.Type().Elem().Kind() == reflect.String && strings.ContainsAny(texts[i], `,"`) {
				texts[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(texts[i]) + `"`
			}
		}
		return strings.Join(texts, ", ")
	case v.Kind() == reflect.String && encoded:
		return base64.StdEncoding.EncodeToString([]byte(v.String()))
	case v.Kind() == reflect.String:
		return v.String()
	}
	return string(appendScalar(nil, v))
}
