package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	smithy "github.com/aws/smithy-go"
	"github.com/gorilla/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// exec runs a command in a container, wherever its machine is.
func (c *common) exec() *cobra.Command {
	input := false
	cmd := &cobra.Command{Use: "exec TASK [CONTAINER] [-- COMMAND ARG...]", Short: "Run a command in a task's container (default: a shell)",
		Long: `Run a command in a container of a task, which runs with ECS Exec enabled (enableExecuteCommand). On a terminal the command gets one too;
elsewhere only what it says comes back, and with -i it is given the standard input. berth exits with the command's exit code.
TASK is the beginning of a task's id, or the name of a service, of which the newest task is taken.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			words := []string{"/bin/sh"}
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				args, words = args[:at], args[at:]
			}
			if len(args) < 1 || len(args) > 2 || len(words) == 0 {
				return Usage(fmt.Errorf("usage: %s", cmd.UseLine()))
			}
			t, err := c.answering(cmd.Context())
			if err != nil {
				return err
			}
			session, err := openSession(cmd.Context(), ecs.NewFromConfig(t.config()), args[0], strings.Join(args[1:], ""), words)
			if err != nil {
				return err
			}
			return talk(cmd.Context(), session, console{in: os.Stdin, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr(), input: input})
		}}
	cmd.Flags().BoolVarP(&input, "interactive", "i", false, "without a terminal, too, give the command the standard input")
	return cmd
}

// ExitError has the berth command exit with a code and say nothing.
type ExitError struct{ Code int }

func (e ExitError) Error() string { return fmt.Sprintf("the command exited with %d", e.Code) }

// openSession asks for a session in a container of the task that name means.
func openSession(ctx context.Context, client *ecs.Client, name, container string, words []string) (*types.Session, error) {
	task, err := findTask(ctx, client, name)
	if err != nil {
		return nil, err
	}
	if container == "" && len(task.Containers) > 1 {
		var names []string
		for _, c := range task.Containers {
			names = append(names, aws.ToString(c.Name))
		}
		return nil, Usage(fmt.Errorf("the task has several containers: name one of %s", strings.Join(names, ", ")))
	}
	in := &ecs.ExecuteCommandInput{Cluster: task.ClusterArn, Task: task.TaskArn, Command: aws.String(execstream.Join(words)), Interactive: true}
	if container != "" {
		in.Container = &container
	}
	out, err := client.ExecuteCommand(ctx, in)
	if refusal, ok := errors.AsType[smithy.APIError](err); ok && !task.EnableExecuteCommand && refusal.ErrorCode() == "InvalidParameterException" {
		return nil, fmt.Errorf("ECS Exec is not enabled in this task; run it with --enable-execute-command, or: "+
			"aws ecs update-service --service NAME --enable-execute-command --force-new-deployment (%w)", err)
	}
	if err != nil {
		return nil, err
	}
	return out.Session, nil
}

// findTask finds the running task whose id begins so, or the newest of a service.
func findTask(ctx context.Context, client *ecs.Client, name string) (*types.Task, error) {
	tasks, err := listTasks(ctx, client, false)
	if err != nil {
		return nil, err
	}
	var found []*types.Task
	var ofService *types.Task
	for i := range tasks {
		t := &tasks[i]
		if strings.HasPrefix(model.ARNTail(*t.TaskArn), model.ARNTail(name)) {
			found = append(found, t)
		}
		if aws.ToString(t.Group) == "service:"+name && aws.ToString(t.LastStatus) == "RUNNING" {
			ofService = t // the newest comes last
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case ofService != nil:
		return ofService, nil
	case len(found) == 0:
		return nil, fmt.Errorf("no task or service is called %s; berth ps lists the tasks", name)
	}
	return nil, fmt.Errorf("%d tasks begin with %s; say more of the id", len(found), name)
}

// console is where a session's user is.
type console struct {
	in        *os.File
	out, errs io.Writer
	input     bool
}

// talk runs a session until its command ends.
func talk(ctx context.Context, s *types.Session, c console) error {
	dialing, cancel := context.WithTimeout(ctx, timeouts.RequestHeader)
	defer cancel()
	socket, _, err := websocket.DefaultDialer.DialContext(dialing, *s.StreamUrl, nil)
	if err != nil {
		return fmt.Errorf("connect to the session: %w", err)
	}
	defer socket.Close()
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	hello, err := json.Marshal(map[string]string{"MessageSchemaVersion": "1.0", "TokenValue": *s.TokenValue, "ClientVersion": "berth/1"})
	if err != nil {
		return err
	}
	if err := socket.WriteMessage(websocket.TextMessage, hello); err != nil {
		return fmt.Errorf("begin the session: %w", err)
	}
	say := execstream.NewWriter(messages{socket})
	fd, onTerminal := c.terminal()
	begin := execstream.Command{Terminal: onTerminal}
	if onTerminal {
		begin.Size = sizeOf(fd)
		state, err := term.MakeRaw(int(c.in.Fd()))
		if err != nil {
			return fmt.Errorf("set the terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(c.in.Fd()), state) }()
	}
	if err := say.WriteJSON(execstream.Begin, begin); err != nil {
		return fmt.Errorf("begin the session: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	if onTerminal {
		go watchSize(say, fd, begin.Size, ended)
	}
	go c.feed(say, onTerminal)
	return hear(ctx, socket, c)
}

// terminal is the terminal that the user sees, when both the input and the output are one.
func (c console) terminal() (fd int, ok bool) {
	out, isFile := c.out.(*os.File)
	if !isFile || !term.IsTerminal(int(c.in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return 0, false
	}
	return int(out.Fd()), true
}

func sizeOf(fd int) execstream.Size {
	w, h, err := term.GetSize(fd)
	if err != nil {
		return execstream.Size{}
	}
	return execstream.Size{Columns: uint16(w), Rows: uint16(h)}
}

// watchSize tells of the terminal's size when it has changed: not every system has a signal for that.
func watchSize(say *execstream.Writer, fd int, last execstream.Size, ended <-chan struct{}) {
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ended:
			return
		case <-look.C:
			if now := sizeOf(fd); now != last {
				last = now
				_ = say.WriteJSON(execstream.Resize, now) // hear finds out about a broken connection
			}
		}
	}
}

// feed gives the command its input.
func (c console) feed(say *execstream.Writer, onTerminal bool) {
	if onTerminal || c.input {
		if _, err := io.Copy(say.To(execstream.Input), c.in); err != nil {
			return // hear finds out about a broken connection
		}
	}
	_ = say.Write(execstream.Eof, nil)
}

// hear prints what the command says, until it ends.
func hear(ctx context.Context, socket *websocket.Conn, c console) error {
	for {
		_, data, err := socket.ReadMessage()
		if ctx.Err() != nil {
			return ExitError{130} // interrupted
		}
		if closed, ok := errors.AsType[*websocket.CloseError](err); ok && closed.Code == websocket.ClosePolicyViolation {
			return errors.New(closed.Text)
		}
		if err != nil {
			return fmt.Errorf("the session broke, and the command was ended: the server that carried it was restarted or is lost (%w)", err)
		}
		f, err := execstream.NewReader(bytes.NewReader(data)).Read()
		if err != nil {
			return fmt.Errorf("the session cannot be read: %w", err)
		}
		switch f.Kind {
		case execstream.Output:
			_, err = c.out.Write(f.Data)
		case execstream.Errors:
			_, err = c.errs.Write(f.Data)
		case execstream.Ended:
			var o execstream.Outcome
			if err := f.Decode(&o); err != nil {
				return err
			}
			if o.Reason != "" {
				return errors.New(o.Reason)
			}
			if o.Code != 0 {
				return ExitError{o.Code}
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// messages makes a message of each frame.
type messages struct{ socket *websocket.Conn }

// Write implements io.Writer.
func (m messages) Write(p []byte) (int, error) {
	if err := m.socket.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
