// Package logdriver carries what containers write to where their log configuration says.
//
// The shim appends a container's output to two plain files, <dir>/stdout and <dir>/stderr, so a container writes its log
// whether or not Berth runs, and no process a container is needed. The driver follows the files (one inotify instance for all,
// with polling as a net), splits them into lines and hands these on:
//
//   - awslogs: to the LogSink, as the stream <prefix>/<container>/<task id> of the group;
//   - json-file, which is the default: to <dir>/container.log as {"log":…,"stream":…,"time":…} lines, rotated by max-size (20m
//     unless given) into container.log.1 … up to max-file (5 unless given) files. They stay on this machine, under the agent's
//     state directory: <task id>/logs/<container>/container.log.
//
// What waits to be carried is bounded by the shim (agent/outlet), by the options mode and max-buffer-size: a container waits, or
// loses lines, which are counted.
//
// What was handed on is noted in <dir>/offsets and given back to the disk by punching holes, so that the files stay small on
// the disk and a driver that starts anew repeats at most its last batch and loses nothing. Order after each batch: stored, noted,
// punched.
package logdriver
