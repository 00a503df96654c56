package timeouts

import "time"

// Sessions in containers (ECS Exec).
const (
	// InteractionIdle ends a session in which nothing was said: AWS's default.
	InteractionIdle = 20 * time.Minute
	// SessionToken is how long after ExecuteCommand its session may be begun; SessionResume how long a client that was lost may come back.
	SessionToken  = 5 * time.Minute
	SessionResume = 2 * time.Minute
	// ExecCall is what a node has to answer a call for a session; ExecAsk what another server has to pass it on.
	ExecCall = 10 * time.Second
	ExecAsk  = 5 * time.Second
	// RouterAnswer is what a task's log router has to acknowledge lines.
	RouterAnswer = 5 * time.Second
	// ShakeHands is what a client has to take part in the handshake.
	ShakeHands = 30 * time.Second
	// ResendLeast and ResendMost bound the pause before a message that was not acknowledged is sent again, ResendTick is how often that is
	// looked at; ResendGiveUp is when the client is taken for lost.
	ResendLeast  = 200 * time.Millisecond
	ResendMost   = time.Second
	ResendTick   = 100 * time.Millisecond
	ResendGiveUp = time.Minute
	// SessionSend is what a client has to take one message; SessionFlush what it has to acknowledge the last output of a command that ended.
	SessionSend  = 10 * time.Second
	SessionFlush = 5 * time.Second
)
