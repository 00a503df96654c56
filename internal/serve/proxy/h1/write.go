package h1

import "strconv"

// AppendField writes a header line.
func AppendField(to []byte, name, value string) []byte {
	to = append(to, name...)
	to = append(to, ": "...)
	to = append(to, value...)
	return append(to, crlf...)
}

// AppendInt writes a header line whose value is a number.
func AppendInt(to []byte, name string, value int64) []byte {
	to = append(to, name...)
	to = append(to, ": "...)
	to = strconv.AppendInt(to, value, 10)
	return append(to, crlf...)
}

// AppendStatus writes an answer's first line.
func AppendStatus(to []byte, status int, reason string) []byte {
	to = append(to, "HTTP/1.1 "...)
	to = strconv.AppendInt(to, int64(status), 10)
	to = append(to, ' ')
	to = append(to, reason...)
	return append(to, crlf...)
}

// AppendRequest writes a request's first line and its Host.
func AppendRequest(to []byte, method, target, host string) []byte {
	to = append(to, method...)
	to = append(to, ' ')
	to = append(to, target...)
	to = append(to, " HTTP/1.1\r\nHost: "...)
	to = append(to, host...)
	return append(to, crlf...)
}

// AppendChunk writes data as a chunk; no data, nothing.
func AppendChunk(to, data []byte) []byte {
	if len(data) == 0 {
		return to
	}
	to = strconv.AppendInt(to, int64(len(data)), 16)
	to = append(to, crlf...)
	to = append(to, data...)
	return append(to, crlf...)
}

// AppendLastChunk ends a chunked body with its trailers, as Body.Trailers returns them.
func AppendLastChunk(to, trailers []byte) []byte {
	to = append(to, "0\r\n"...)
	to = append(to, trailers...)
	return append(to, crlf...)
}
