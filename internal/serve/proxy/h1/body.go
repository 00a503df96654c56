package h1

// The bounds of what surrounds the bytes of a chunked body.
const (
	maxChunkLine = 256     // a chunk's size and its extensions
	maxTrailers  = 8 << 10 // all trailers together
	maxExtra     = 16 << 10
)

var (
	errChunk    = &Error{400, "a chunk's size is malformed"}
	errChunkEnd = &Error{400, "a chunk is longer than its size"}
	errTrailer  = &Error{400, "the trailers are too large"}
)

// Body cuts a message's body out of the bytes that follow its head.
type Body struct {
	left     int64 // of the body, or of the chunk; UntilClose
	chunked  bool
	part     part
	extra    int    // bytes of sizes and extensions beyond the shortest since the body's beginning
	trailers []byte // the lines of trailers, without the empty one
	done     bool
}

// part is where in a chunked body the next byte belongs.
type part uint8

const (
	chunkSize part = iota
	chunkData
	chunkEnd
	trailerPart
)

// Begin makes b a body of that length: -1 for a chunked one, or UntilClose.
func (b *Body) Begin(length int64) {
	*b = Body{left: length, chunked: length == -1, done: length == 0, trailers: b.trailers[:0]}
}

// Done tells whether all of the body was seen. One that lasts until its connection closes never is.
func (b *Body) Done() bool { return b.done }

// UntilClose tells whether the end of the connection is the body's.
func (b *Body) UntilClose() bool { return !b.chunked && b.left == UntilClose }

// Trailers returns the lines that followed a chunked body, each with its CR LF.
func (b *Body) Trailers() []byte { return b.trailers }

// Next looks at what came: data are bytes of the body, within buf; the first n bytes of buf are done with. When it returns neither
// and the body is not done, it needs more than buf holds.
func (b *Body) Next(buf []byte) (data []byte, n int, err error) {
	if b.done {
		return nil, 0, nil
	}
	if !b.chunked {
		data = b.take(buf)
		b.done = b.left == 0
		return data, len(data), nil
	}
	for n < len(buf) && !b.done {
		if b.part == chunkData {
			data = b.take(buf[n:])
			if b.left == 0 {
				b.part = chunkEnd
			}
			return data, n + len(data), nil
		}
		used, err := b.between(buf[n:])
		if used == 0 || err != nil {
			return nil, n, err
		}
		n += used
	}
	return nil, n, nil
}

func (b *Body) take(buf []byte) []byte {
	if b.left == UntilClose {
		return buf
	}
	if int64(len(buf)) > b.left {
		buf = buf[:b.left]
	}
	b.left -= int64(len(buf))
	return buf
}

// between reads a line that is not data, if buf holds all of it.
func (b *Body) between(buf []byte) (used int, err error) {
	if b.part == chunkEnd {
		if buf[0] != '\r' || len(buf) > 1 && buf[1] != '\n' {
			return 0, errChunkEnd
		}
		if len(buf) < 2 {
			return 0, nil
		}
		b.part = chunkSize
		return 2, nil
	}
	limit := maxChunkLine
	if b.part == trailerPart {
		limit = maxTrailers
	}
	end := 0
	for end < len(buf) && buf[end] != '\n' {
		if end++; end > limit {
			if b.part == trailerPart {
				return 0, errTrailer
			}
			return 0, errChunk
		}
	}
	if end == len(buf) {
		return 0, nil
	}
	if end == 0 || buf[end-1] != '\r' {
		return 0, errLine
	}
	if b.part == chunkSize {
		return end + 1, b.size(buf[:end-1])
	}
	return end + 1, b.trailer(buf[:end+1])
}

// size reads a chunk's first line: hexadecimal digits, and extensions, which mean nothing to anybody.
func (b *Body) size(s []byte) error {
	i, n := 0, int64(0)
	for ; i < len(s) && class[s[i]]&hex != 0; i++ {
		if i == 15 {
			return errChunk
		}
		c := s[i] | 0x20
		if c >= 'a' {
			c -= 'a' - '0' - 10
		}
		n = n<<4 | int64(c-'0')
	}
	if i == 0 || i < len(s) && s[i] != ';' {
		return errChunk
	}
	for _, c := range s[i:] {
		if class[c]&text == 0 {
			return errControl
		}
	}
	if n > 0 { // small chunks with long extensions are work for nothing
		if b.extra += len(s) - i; b.extra > maxExtra {
			return errChunk
		}
	}
	b.left, b.part = n, chunkData
	if n == 0 {
		b.part = trailerPart
	}
	return nil
}

// trailer reads a line after the last chunk; the empty one ends the body.
func (b *Body) trailer(s []byte) error {
	if len(s) == 2 {
		b.done = true
		return nil
	}
	one, rest, err := field(view(s))
	if err != nil {
		return err
	}
	if rest != "" {
		return errLine
	}
	if len(b.trailers)+len(s) > maxTrailers {
		return errTrailer
	}
	if one.Kind == Other { // the others belong to heads alone
		b.trailers = append(b.trailers, s...)
	}
	return nil
}
