package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Refusal is a server's answer to an HTTP request that it did not do.
type Refusal struct {
	Status  int
	Message string // a sentence with its cure
}

func (r *Refusal) Error() string { return r.Message }

// Elsewhere is a server's answer to what only another one does: the leader.
type Elsewhere struct {
	Address string // host:port of its cluster port
	Message string
}

func (e *Elsewhere) Error() string { return e.Message }

// WriteElsewhere sends the caller to another server.
func WriteElsewhere(w http.ResponseWriter, e *Elsewhere) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusMisdirectedRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": e.Message, "elsewhere": e.Address}) // who does not read it has gone
}

// WriteError answers with an error's sentence.
func WriteError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()}) // who does not read it has gone
}

// ReadError is the *Refusal or the *Elsewhere in an answer, nil when its status is of success. It does not close the body. What a server
// that is ending or electing says (503) is neither: it may be asked again.
func ReadError(res *http.Response) error {
	if res.StatusCode < 300 {
		return nil
	}
	var said struct {
		Error     string `json:"error"`
		Elsewhere string `json:"elsewhere"`
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || json.Unmarshal(data, &said) != nil || said.Error == "" {
		said.Error = fmt.Sprintf("the server answered %s", res.Status)
	}
	switch {
	case res.StatusCode == http.StatusServiceUnavailable:
		return errors.New(said.Error)
	case said.Elsewhere != "":
		return &Elsewhere{said.Elsewhere, said.Error}
	}
	return &Refusal{Status: res.StatusCode, Message: said.Error}
}
