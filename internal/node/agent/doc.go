// Package agent is the node's half of Berth: it turns assignments into running containers and reports what it observes.
//
// One goroutine a task owns that task's state machine (task.go). Everything slow (a pull, a namespace, a container) runs beside it
// and hands its outcome back as a function that the goroutine applies, so a task's state is never locked. After each step the
// task looks again at what is wanted and what is there (start.go, stop.go), saves its record (record.go) and reports Observed
// whole, in this order: a report is never newer than the record.
//
// The agent holds no process and no connection that a container needs. It may be killed at any moment: the next one rebuilds
// every task from Runtime.List, the records and the assignments (resume.go), without touching a running container.
package agent
