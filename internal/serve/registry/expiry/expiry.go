// Package expiry applies repositories' lifecycle policies: what the planner says of a repository's images is done to their rows.
package expiry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/lifecycle"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
)

// Plan says what a policy would do to a repository's images now.
func Plan(r store.Reader, repo string, p lifecycle.Policy, now time.Time) []lifecycle.Verdict {
	used := InUse(r, repo)
	var images []lifecycle.Image
	for img := range store.Images.By(r, store.ByRepository, repo) {
		images = append(images, lifecycle.Image{Digest: img.Digest, Tags: img.Tags, PushedAt: img.PushedAt, PulledAt: img.PulledAt,
			Archived: img.Archived, ArchivedAt: img.ArchivedAt, Children: img.Children, Subject: img.Subject, InUse: used[img.Digest]})
	}
	return lifecycle.Evaluate(p, images, now)
}

// InUse are the digests of a repository's images that tasks run or are to run.
func InUse(r store.Reader, repo string) map[string]bool {
	used := map[string]bool{}
	use := func(ref, digest string) {
		name, tag, at := split(ref)
		if name != repo {
			return
		}
		for _, d := range []string{digest, at} {
			if d != "" {
				used[d] = true
			}
		}
		if t, ok := store.ImageTags.Get(r, repo+":"+tag); ok && digest == "" && at == "" {
			used[t.Digest] = true
		}
	}
	for _, state := range []string{store.TaskLive, store.TaskPending} {
		for task := range store.Tasks.By(r, store.ByState, state) {
			for _, c := range task.Observed.Containers {
				use(c.Image, c.ImageDigest)
			}
			if def, ok := definition(r, task.TaskDefinition); ok && len(task.Observed.Containers) == 0 {
				for _, c := range def.Definition.ContainerDefinitions {
					if c.Image != nil {
						use(*c.Image, "")
					}
				}
			}
		}
	}
	return used
}

// definition is the task definition of an ARN.
func definition(r store.Reader, arn string) (*model.TaskDefinition, bool) {
	_, name, _ := strings.Cut(arn, ":task-definition/")
	family, revision, _ := strings.Cut(name, ":")
	n := 0
	if _, err := fmt.Sscanf(revision, "%d", &n); err != nil {
		return nil, false
	}
	return store.TaskDefinitions.Get(r, model.TaskDefinitionKey(family, n))
}

// split reads an image's reference, whose registry may be named. A reference without tag means latest.
func split(ref string) (name, tag, digest string) {
	name, digest, _ = strings.Cut(ref, "@")
	if host, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		name = rest
	}
	if i := strings.LastIndex(name, ":"); i >= 0 {
		name, tag = name[:i], name[i+1:]
	}
	if tag == "" {
		tag = "latest"
	}
	return name, tag, digest
}

// Run applies the policies of all repositories that have one. One repository's fault never stops another's.
func Run(ctx context.Context, s store.Store, now time.Time, log *slog.Logger) error {
	var names []string
	s.View(func(r store.Reader) {
		for repo := range store.Repositories.Scan(r, "") {
			if repo.Lifecycle != "" {
				names = append(names, repo.Name)
			}
		}
	})
	var failed []error
	for _, name := range names {
		failed = append(failed, Apply(ctx, s, name, now, log))
	}
	return errors.Join(failed...)
}

// Apply applies the policy of one repository.
func Apply(ctx context.Context, s store.Store, name string, now time.Time, log *slog.Logger) error {
	var done []lifecycle.Verdict
	err := s.Update(store.Freeing(ctx), func(tx store.Tx) error {
		done = nil
		repo, ok := store.Repositories.Get(tx, name)
		if !ok || repo.Lifecycle == "" {
			return nil
		}
		policy, err := lifecycle.Parse(repo.Lifecycle)
		if err != nil {
			return fmt.Errorf("the lifecycle policy of %s: %w", name, err)
		}
		for _, v := range Plan(tx, name, policy, now) {
			img, ok := store.Images.Get(tx, name+"@"+v.Digest)
			if !ok {
				continue
			}
			switch v.Action {
			case lifecycle.Expire:
				registry.RemoveImage(tx, img)
			case lifecycle.Transition:
				next := *img
				next.Archived, next.ArchivedAt = true, now
				store.Images.Put(tx, &next)
			default:
				continue
			}
			done = append(done, v)
		}
		next := *repo
		next.EvaluatedAt = now
		store.Repositories.Put(tx, &next)
		return nil
	})
	for _, v := range done {
		if err == nil {
			log.Info("a lifecycle policy was applied", "repository", name, "image", v.Digest, "action", v.Action, "rule", v.Priority, "reason", v.Reason)
		}
	}
	return err
}
