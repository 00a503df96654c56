package gate

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// ErrSlow says that a request's body came slower than a Pace allows.
var ErrSlow = errors.New("the request's body came too slowly")

// Pace is how fast the other side must be: it may keep us waiting for Grace, and for as long again as its bytes take at Rate. Time in
// which it is not waited for does not count.
type Pace struct {
	Grace time.Duration
	Rate  int64 // bytes a second
}

// DefaultPace lets the slowest of lines through, and no dripping.
var DefaultPace = Pace{Grace: timeouts.PaceGrace, Rate: 16 << 10}

// clock is how long was waited, and for how many bytes.
type clock struct {
	Pace
	n      int64
	waited time.Duration
}

// left is how much longer one may wait, for more bytes besides.
func (c *clock) left(more int) time.Duration {
	return c.Grace + time.Duration(float64(c.n+int64(more))/float64(c.Rate)*float64(time.Second)) - c.waited
}

// wait runs one read or write against a deadline.
func (c *clock) wait(deadline func(time.Time) error, more int, move func() (int, error)) (int, error) {
	start := time.Now()
	_ = deadline(start.Add(c.left(more))) // not supported, as by the answers of tests: no pace
	n, err := move()
	c.n, c.waited = c.n+int64(n), c.waited+time.Since(start)
	return n, err
}

// Body returns the body of r, which w answers, with reads that fail with ErrSlow when it comes too slowly. From now on it is under
// the pace, also where the server throws away what the handler left unread. r keeps its own
// body: the server knows by its type whether to read on before it answers.
func (p Pace) Body(w http.ResponseWriter, r *http.Request) io.ReadCloser {
	if r.Body == nil || r.Body == http.NoBody {
		return http.NoBody
	}
	b := &pacedBody{ReadCloser: r.Body, clock: clock{Pace: p}, control: http.NewResponseController(w)}
	_ = b.control.SetReadDeadline(time.Now().Add(b.clock.left(0))) // not supported: no pace
	return b
}

type pacedBody struct {
	io.ReadCloser
	clock   clock
	control *http.ResponseController
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.clock.wait(b.control.SetReadDeadline, 0, func() (int, error) { return b.ReadCloser.Read(p) })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, ErrSlow
	}
	if err == io.EOF { //nolint:errorlint // io.Reader gives it bare
		_ = b.control.SetReadDeadline(time.Time{}) // the handler may take its time
	}
	return n, err
}

// Writer returns w with writes that fail when the client takes them too slowly. done ends the pace.
func (p Pace) Writer(w http.ResponseWriter) (paced io.Writer, done func()) {
	pw := &pacedWriter{w: w, clock: clock{Pace: p}, control: http.NewResponseController(w)}
	return pw, func() { _ = pw.control.SetWriteDeadline(time.Time{}) }
}

type pacedWriter struct {
	w       io.Writer
	clock   clock
	control *http.ResponseController
}

// Write implements io.Writer.
func (w *pacedWriter) Write(p []byte) (int, error) {
	return w.clock.wait(w.control.SetWriteDeadline, len(p), func() (int, error) { return w.w.Write(p) })
}
