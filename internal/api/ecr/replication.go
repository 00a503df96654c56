package ecr

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/uuid"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Peers tells which other registries there are to replicate to.
type Peers interface {
	Knows(region, registryID string) bool
}

func (a *api) handleReplication(s *wire.Service) {
	wire.Handle(s, a.describeRegistry)
	wire.Handle(s, a.putReplicationConfiguration)
	wire.Handle(s, a.describeImageReplicationStatus)
	wire.Handle(s, a.startReplicationBackfill)
	wire.Handle(s, a.stopReplicationBackfill)
	wire.Handle(s, a.listReplicationBackfills)
	wire.Handle(s, a.describeReplicationBackfillResults)
}

func (a *api) describeRegistry(ctx context.Context, in *ecr.DescribeRegistryInput) (*ecr.DescribeRegistryOutput, error) {
	c := a.registrySettings().Replication
	if c.Rules == nil {
		c.Rules = []types.ReplicationRule{}
	}
	return &ecr.DescribeRegistryOutput{RegistryId: &a.Scope.Account, ReplicationConfiguration: &c}, nil
}

func (a *api) checkDestination(d types.ReplicationDestination) error {
	switch {
	case d.Region == nil || d.RegistryId == nil || len(*d.RegistryId) != 12:
		return invalid("replicationConfiguration", "A replication destination needs a region and a registryId of 12 digits")
	case *d.Region == a.Scope.Region && *d.RegistryId == a.Scope.Account:
		return invalid("replicationConfiguration", "Replication destination cannot be the same as the source registry")
	case !a.Peers.Knows(*d.Region, *d.RegistryId):
		return model.Errorf("InvalidParameterException", "Berth knows no registry with id '%s' in %s: describe it in registry-peers.json in its data directory",
			*d.RegistryId, *d.Region)
	}
	return nil
}

func (a *api) putReplicationConfiguration(ctx context.Context, in *ecr.PutReplicationConfigurationInput) (*ecr.PutReplicationConfigurationOutput, error) {
	c := in.ReplicationConfiguration
	if c == nil || len(c.Rules) > 10 {
		return nil, invalid("replicationConfiguration", "must be given, with at most 10 rules")
	}
	for _, r := range c.Rules {
		if n := len(r.Destinations); n < 1 || n > 25 {
			return nil, invalid("replicationConfiguration", "a rule must have from 1 to 25 destinations")
		}
		for _, d := range r.Destinations {
			if err := a.checkDestination(d); err != nil {
				return nil, err
			}
		}
		for _, f := range r.RepositoryFilters {
			if f.Filter == nil || f.FilterType != types.RepositoryFilterTypePrefixMatch {
				return nil, invalid("replicationConfiguration", "a repository filter needs a filter of type PREFIX_MATCH")
			}
		}
	}
	err := a.changeSettings(ctx, func(s *model.RegistrySettings) error { s.Replication = *c; return nil })
	return &ecr.PutReplicationConfigurationOutput{ReplicationConfiguration: c}, err
}

func (a *api) describeImageReplicationStatus(ctx context.Context, in *ecr.DescribeImageReplicationStatusInput) (*ecr.DescribeImageReplicationStatusOutput, error) {
	repo, img, err := a.one(in.RegistryId, in.RepositoryName, in.ImageId)
	if err != nil {
		return nil, err
	}
	out := &ecr.DescribeImageReplicationStatusOutput{ImageId: &types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: in.ImageId.ImageTag},
		RepositoryName: &repo.Name, ReplicationStatuses: []types.ImageReplicationStatus{}}
	a.Store.View(func(tx store.Reader) {
		for r := range store.Replications.Scan(tx, img.Key()+"#") {
			s := types.ImageReplicationStatus{Region: &r.Region, RegistryId: &r.RegistryID, Status: r.Status}
			if r.Failure != "" {
				s.FailureCode = &r.Failure
			}
			out.ReplicationStatuses = append(out.ReplicationStatuses, s)
		}
	})
	return out, nil
}

func (a *api) startReplicationBackfill(ctx context.Context, in *ecr.StartReplicationBackfillInput) (*ecr.StartReplicationBackfillOutput, error) {
	if err := a.checkRegistry(in.RegistryId); err != nil {
		return nil, err
	}
	if in.Destination == nil {
		return nil, invalid("destination", "Member must not be null")
	}
	if err := a.checkDestination(*in.Destination); err != nil {
		return nil, err
	}
	b := &model.Backfill{ID: uuid.NewString(), Region: *in.Destination.Region, RegistryID: *in.Destination.RegistryId, StartedAt: a.Now()}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		for other := range store.Backfills.Scan(tx, "") {
			if s := a.backfill(tx, other); other.Region == b.Region && other.RegistryID == b.RegistryID && s.Status == types.ReplicationBackfillStatusInProgress {
				return model.Errorf("ReplicationBackfillInProgressException", "The replication backfill '%s' to this destination is in progress", other.ID)
			}
		}
		store.Backfills.Put(tx, b)
		for img := range store.Images.Scan(tx, "") {
			if !a.replicates(tx, img.Repository, *in.Destination) || len(img.Tags) == 0 {
				continue
			}
			store.Replications.Put(tx, &model.Replication{Repository: img.Repository, Digest: img.Digest, Region: b.Region, RegistryID: b.RegistryID,
				Tags: img.Tags, Backfill: b.ID, Status: types.ReplicationStatusInProgress, At: a.Now()})
		}
		return nil
	})
	return &ecr.StartReplicationBackfillOutput{Destination: in.Destination, RegistryId: &a.Scope.Account, ReplicationBackfillId: &b.ID, StartedAt: &b.StartedAt,
		Status: types.ReplicationBackfillStatusInProgress}, err
}

// replicates tells whether a rule sends a repository's images to a destination.
func (a *api) replicates(tx store.Reader, repo string, d types.ReplicationDestination) bool {
	for _, r := range settings(tx).Replication.Rules {
		to := slices.ContainsFunc(r.Destinations, func(o types.ReplicationDestination) bool {
			return *o.Region == *d.Region && *o.RegistryId == *d.RegistryId
		})
		about := len(r.RepositoryFilters) == 0 || slices.ContainsFunc(r.RepositoryFilters, func(f types.RepositoryFilter) bool { return strings.HasPrefix(repo, *f.Filter) })
		if to && about {
			return true
		}
	}
	return false
}

// backfill sums a backfill up from its images.
func (a *api) backfill(tx store.Reader, b *model.Backfill) types.ReplicationBackfillSummary {
	done, bad, total := int32(0), int32(0), int32(0)
	last := b.StartedAt
	for r := range store.Replications.Scan(tx, "") {
		if r.Backfill != b.ID {
			continue
		}
		total++
		if r.At.After(last) {
			last = r.At
		}
		switch r.Status {
		case types.ReplicationStatusComplete:
			done++
		case types.ReplicationStatusFailed:
			bad++
		}
	}
	s := types.ReplicationBackfillSummary{Destination: &types.ReplicationDestination{Region: &b.Region, RegistryId: &b.RegistryID}, ReplicationBackfillId: &b.ID,
		StartedAt: &b.StartedAt, Status: types.ReplicationBackfillStatusInProgress,
		Progress: &types.ReplicationBackfillProgress{CompletedReplicationCount: &done, FailedReplicationCount: &bad, TotalReplicationCount: &total}}
	switch {
	case !b.StoppedAt.IsZero():
		s.Status, s.EndedAt = types.ReplicationBackfillStatusStopped, &b.StoppedAt
	case done+bad == total && bad > 0:
		s.Status, s.EndedAt = types.ReplicationBackfillStatusFailed, &last
	case done+bad == total:
		s.Status, s.EndedAt = types.ReplicationBackfillStatusComplete, &last
	}
	return s
}

// findBackfill finds a backfill after checking the parameters.
func (a *api) findBackfill(tx store.Reader, registryID, id *string) (*model.Backfill, error) {
	if err := a.checkRegistry(registryID); err != nil {
		return nil, err
	}
	if id == nil {
		return nil, invalid("replicationBackfillId", "Member must not be null")
	}
	if b, ok := store.Backfills.Get(tx, *id); ok {
		return b, nil
	}
	return nil, model.Errorf("ReplicationBackfillNotFoundException", "The replication backfill '%s' does not exist in the registry with id '%s'", *id, a.Scope.Account)
}

func (a *api) stopReplicationBackfill(ctx context.Context, in *ecr.StopReplicationBackfillInput) (*ecr.StopReplicationBackfillOutput, error) {
	out := &ecr.StopReplicationBackfillOutput{RegistryId: &a.Scope.Account}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		b, err := a.findBackfill(tx, in.RegistryId, in.ReplicationBackfillId)
		if err != nil {
			return err
		}
		s := a.backfill(tx, b)
		if s.Status != types.ReplicationBackfillStatusInProgress {
			return model.Errorf("ReplicationBackfillInvalidStatusException", "The replication backfill '%s' is %s and cannot be stopped", b.ID, s.Status)
		}
		next := *b
		next.StoppedAt = a.Now()
		store.Backfills.Put(tx, &next)
		for _, r := range slices.Collect(store.Replications.By(tx, store.ByState, string(types.ReplicationStatusInProgress))) {
			if r.Backfill == b.ID {
				store.Replications.Delete(tx, r.Key())
			}
		}
		*out = ecr.StopReplicationBackfillOutput{Destination: s.Destination, RegistryId: &a.Scope.Account, ReplicationBackfillId: &b.ID, StartedAt: &b.StartedAt,
			Status: types.ReplicationBackfillStatusStopped}
		return nil
	})
	return out, err
}

func (a *api) listReplicationBackfills(ctx context.Context, in *ecr.ListReplicationBackfillsInput) (*ecr.ListReplicationBackfillsOutput, error) {
	if err := a.checkRegistry(in.RegistryId); err != nil {
		return nil, err
	}
	all := []types.ReplicationBackfillSummary{}
	a.Store.View(func(tx store.Reader) {
		for b := range store.Backfills.Scan(tx, "") {
			all = append(all, a.backfill(tx, b))
		}
	})
	all, next, err := page(all, in.MaxResults, in.NextToken, func(s types.ReplicationBackfillSummary) string { return *s.ReplicationBackfillId })
	return &ecr.ListReplicationBackfillsOutput{Backfills: all, NextToken: next, RegistryId: &a.Scope.Account}, err
}

func (a *api) describeReplicationBackfillResults(ctx context.Context, in *ecr.DescribeReplicationBackfillResultsInput) (*ecr.DescribeReplicationBackfillResultsOutput, error) {
	out := &ecr.DescribeReplicationBackfillResultsOutput{RegistryId: &a.Scope.Account}
	results := []types.ReplicationBackfillResult{}
	var err error
	a.Store.View(func(tx store.Reader) {
		var b *model.Backfill
		if b, err = a.findBackfill(tx, in.RegistryId, in.ReplicationBackfillId); err != nil {
			return
		}
		s := a.backfill(tx, b)
		out.Destination, out.EndedAt, out.Progress, out.ReplicationBackfillId, out.StartedAt, out.Status = s.Destination, s.EndedAt, s.Progress, &b.ID, &b.StartedAt, s.Status
		for r := range store.Replications.Scan(tx, "") {
			status := types.ReplicationBackfillResultStatus(r.Status)
			if r.Backfill != b.ID || in.ResultStatusFilter != "" && status != in.ResultStatusFilter {
				continue
			}
			one := types.ReplicationBackfillResult{ImageId: &types.ImageIdentifier{ImageDigest: &r.Digest}, RepositoryName: &r.Repository, Status: status}
			if r.Failure != "" {
				one.FailureCode = &r.Failure
			}
			results = append(results, one)
		}
	})
	if err != nil {
		return nil, err
	}
	out.Results, out.NextToken, err = page(results, in.MaxResults, in.NextToken, func(r types.ReplicationBackfillResult) string {
		return *r.RepositoryName + "@" + *r.ImageId.ImageDigest
	})
	return out, err
}
