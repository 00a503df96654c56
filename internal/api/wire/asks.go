package wire

import (
	"reflect"
)

// What requests say, by the names of their members: for Asks, which must read every operation's input alike.

// Text is a request's member, "" without one.
func Text(in any, member string) string {
	f := reflect.ValueOf(in).Elem().FieldByName(member)
	if !f.IsValid() {
		return ""
	}
	if s, ok := reflect.TypeAssert[*string](f); ok && s != nil {
		return *s
	}
	return ""
}

// Texts are those of a member that is a list, or the one of a member that is a text.
func Texts(in any, member string) []string {
	f := reflect.ValueOf(in).Elem().FieldByName(member)
	if !f.IsValid() {
		return nil
	}
	if all, ok := reflect.TypeAssert[[]string](f); ok {
		return all
	}
	if s := Text(in, member); s != "" {
		return []string{s}
	}
	return nil
}

// RequestTags are the condition keys of the tags that a request brings along or takes away: aws:RequestTag/<key> and aws:TagKeys. It
// always makes a map.
func RequestTags(in any) map[string][]string {
	keys := map[string][]string{}
	add := func(key, value string) {
		keys["aws:RequestTag/"+key] = []string{value}
		keys["aws:TagKeys"] = append(keys["aws:TagKeys"], key)
	}
	v := reflect.ValueOf(in).Elem()
	tags := v.FieldByName("Tags")
	switch {
	case !tags.IsValid():
	case tags.Kind() == reflect.Map && tags.Type().Elem().Kind() == reflect.String:
		for k, value := range tags.Seq2() {
			add(k.String(), value.String())
		}
	case tags.Kind() == reflect.Slice && tags.Type().Elem().Kind() == reflect.Struct:
		for i := range tags.Len() {
			tag := tags.Index(i).Addr().Interface()
			add(Text(tag, "Key")+Text(tag, "TagKey"), Text(tag, "Value")+Text(tag, "TagValue"))
		}
	}
	for _, member := range []string{"TagKeys", "UntagKeys"} {
		keys["aws:TagKeys"] = append(keys["aws:TagKeys"], Texts(in, member)...)
	}
	if len(keys["aws:TagKeys"]) == 0 {
		delete(keys, "aws:TagKeys")
	}
	return keys
}
