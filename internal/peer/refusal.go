package peer

import (
	"encoding/json"
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

// WriteError answers with an error's sentence.
func WriteError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()}) // who does not read it has gone
}

// ReadError is the *Refusal in an answer, nil when its status is of success. It does not close the body.
func ReadError(res *http.Response) error {
	if res.StatusCode < 300 {
		return nil
	}
	var said struct {
		Error string `json:"error"`
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || json.Unmarshal(data, &said) != nil || said.Error == "" {
		said.Error = fmt.Sprintf("the server answered %s", res.Status)
	}
	return &Refusal{Status: res.StatusCode, Message: said.Error}
}
