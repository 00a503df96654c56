package ecr

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Scanner finds the vulnerabilities of images.
type Scanner interface {
	// Start has an image scanned again. Errors: *model.Error.
	Start(ctx context.Context, img *model.Image) error
	// Findings are the last scan's; a *model.Error ScanNotFoundException when there was none.
	Findings(ctx context.Context, img *model.Image) (*types.ImageScanStatus, *types.ImageScanFindings, error)
}

func (a *api) handleScanning(s *wire.Service) {
	wire.Handle(s, a.putRegistryScanningConfiguration)
	wire.Handle(s, a.getRegistryScanningConfiguration)
	wire.Handle(s, a.batchGetRepositoryScanningConfiguration)
	wire.Handle(s, a.putImageScanningConfiguration)
	wire.Handle(s, a.startImageScan)
	wire.Handle(s, a.describeImageScanFindings)
}

// checkScanning refuses to promise scans where none are made.
func (a *api) checkScanning(c *types.ImageScanningConfiguration) error {
	if c != nil && c.ScanOnPush && a.Scanner == nil {
		return model.Errorf("InvalidParameterException", "Berth does not scan images yet: create the repository with scanOnPush=false")
	}
	return nil
}

func (a *api) putRegistryScanningConfiguration(ctx context.Context, in *ecr.PutRegistryScanningConfigurationInput) (*ecr.PutRegistryScanningConfigurationOutput, error) {
	c := &types.RegistryScanningConfiguration{Rules: in.Rules, ScanType: in.ScanType}
	if c.ScanType == "" {
		c.ScanType = types.ScanTypeBasic
	}
	if !slices.Contains(c.ScanType.Values(), c.ScanType) {
		return nil, invalid("scanType", "Member must satisfy enum value set: [BASIC, ENHANCED]")
	}
	if len(c.Rules) > 100 {
		return nil, invalid("rules", "Member must have length less than or equal to 100")
	}
	if c.Rules == nil {
		c.Rules = []types.RegistryScanningRule{}
	}
	for _, r := range c.Rules {
		if !slices.Contains(r.ScanFrequency.Values(), r.ScanFrequency) {
			return nil, invalid("rules", "Member must satisfy enum value set: [SCAN_ON_PUSH, CONTINUOUS_SCAN, MANUAL]")
		}
		if c.ScanType == types.ScanTypeBasic && r.ScanFrequency == types.ScanFrequencyContinuousScan {
			return nil, model.Errorf("InvalidParameterException", "Invalid parameter at 'rules' failed to satisfy constraint: 'CONTINUOUS_SCAN is only available with scanType ENHANCED'")
		}
		if r.ScanFrequency != types.ScanFrequencyManual && a.Scanner == nil {
			return nil, a.checkScanning(&types.ImageScanningConfiguration{ScanOnPush: true})
		}
		for _, f := range r.RepositoryFilters {
			if f.Filter == nil || f.FilterType != types.ScanningRepositoryFilterTypeWildcard {
				return nil, invalid("rules", "a repository filter needs a filter of type WILDCARD")
			}
		}
	}
	err := a.changeSettings(ctx, func(s *model.RegistrySettings) error { s.Scanning = c; return nil })
	return &ecr.PutRegistryScanningConfigurationOutput{RegistryScanningConfiguration: c}, err
}

func scanning(s model.RegistrySettings) *types.RegistryScanningConfiguration {
	if s.Scanning != nil {
		return s.Scanning
	}
	return &types.RegistryScanningConfiguration{ScanType: types.ScanTypeBasic, Rules: []types.RegistryScanningRule{}}
}

func (a *api) getRegistryScanningConfiguration(ctx context.Context, in *ecr.GetRegistryScanningConfigurationInput) (*ecr.GetRegistryScanningConfigurationOutput, error) {
	return &ecr.GetRegistryScanningConfigurationOutput{RegistryId: &a.Scope.Account, ScanningConfiguration: scanning(a.registrySettings())}, nil
}

func (a *api) batchGetRepositoryScanningConfiguration(ctx context.Context, in *ecr.BatchGetRepositoryScanningConfigurationInput) (*ecr.BatchGetRepositoryScanningConfigurationOutput, error) {
	if n := len(in.RepositoryNames); n < 1 || n > 25 {
		return nil, invalid("repositoryNames", "must have length from 1 to 25")
	}
	out := &ecr.BatchGetRepositoryScanningConfigurationOutput{ScanningConfigurations: []types.RepositoryScanningConfiguration{},
		Failures: []types.RepositoryScanningConfigurationFailure{}}
	a.Store.View(func(tx store.Reader) {
		conf := scanning(settings(tx))
		for _, name := range in.RepositoryNames {
			repo, ok := store.Repositories.Get(tx, name)
			if !ok {
				out.Failures = append(out.Failures, types.RepositoryScanningConfigurationFailure{RepositoryName: &name,
					FailureCode: types.ScanningConfigurationFailureCodeRepositoryNotFound, FailureReason: new("Repository not found")})
				continue
			}
			out.ScanningConfigurations = append(out.ScanningConfigurations, scanningOf(repo, conf))
		}
	})
	return out, nil
}

// scanningOf is what the registry's rules and the repository's own setting make of it: the most frequent that fits.
func scanningOf(repo *model.Repository, conf *types.RegistryScanningConfiguration) types.RepositoryScanningConfiguration {
	c := types.RepositoryScanningConfiguration{RepositoryArn: repo.Repository.RepositoryArn, RepositoryName: &repo.Name, ScanFrequency: types.ScanFrequencyManual,
		AppliedScanFilters: []types.ScanningRepositoryFilter{}}
	rank := []types.ScanFrequency{types.ScanFrequencyManual, types.ScanFrequencyScanOnPush, types.ScanFrequencyContinuousScan}
	for _, r := range conf.Rules {
		for _, f := range r.RepositoryFilters {
			if wildcard(*f.Filter, repo.Name) {
				c.AppliedScanFilters = append(c.AppliedScanFilters, f)
				if slices.Index(rank, r.ScanFrequency) > slices.Index(rank, c.ScanFrequency) {
					c.ScanFrequency = r.ScanFrequency
				}
			}
		}
	}
	if own := repo.Repository.ImageScanningConfiguration; own != nil && own.ScanOnPush && c.ScanFrequency == types.ScanFrequencyManual && len(conf.Rules) == 0 {
		c.ScanFrequency = types.ScanFrequencyScanOnPush
	}
	c.ScanOnPush = c.ScanFrequency != types.ScanFrequencyManual
	return c
}

// ScansOnPush tells whether a repository's images are scanned when they are pushed.
func ScansOnPush(repo *model.Repository, conf types.RegistryScanningConfiguration) bool {
	return scanningOf(repo, &conf).ScanOnPush
}

func (a *api) putImageScanningConfiguration(ctx context.Context, in *ecr.PutImageScanningConfigurationInput) (*ecr.PutImageScanningConfigurationOutput, error) {
	if in.ImageScanningConfiguration == nil {
		return nil, invalid("imageScanningConfiguration", "Member must not be null")
	}
	if _, err := a.look(in.RegistryId, in.RepositoryName); err != nil {
		return nil, err
	}
	if err := a.checkScanning(in.ImageScanningConfiguration); err != nil {
		return nil, err
	}
	repo, err := a.change(ctx, in.RegistryId, in.RepositoryName, func(r *model.Repository) error {
		r.Repository.ImageScanningConfiguration = in.ImageScanningConfiguration
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecr.PutImageScanningConfigurationOutput{ImageScanningConfiguration: in.ImageScanningConfiguration, RegistryId: &a.Scope.Account, RepositoryName: &repo.Name}, nil
}

func (a *api) startImageScan(ctx context.Context, in *ecr.StartImageScanInput) (*ecr.StartImageScanOutput, error) {
	repo, img, err := a.one(in.RegistryId, in.RepositoryName, in.ImageId)
	if err != nil {
		return nil, err
	}
	if a.Scanner == nil {
		return nil, model.Errorf("ValidationException", "This Berth does not scan images")
	}
	if img.Archived {
		return nil, model.Errorf("ImageArchivedException", "The specified image is archived and cannot be scanned.")
	}
	if err := a.Scanner.Start(ctx, img); err != nil {
		return nil, err
	}
	return &ecr.StartImageScanOutput{ImageId: &types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: in.ImageId.ImageTag}, RegistryId: &a.Scope.Account,
		RepositoryName: &repo.Name, ImageScanStatus: &types.ImageScanStatus{Status: types.ScanStatusInProgress}}, nil
}

func (a *api) noScan(repo string, id types.ImageIdentifier) error {
	quote := func(s *string) string {
		if s == nil {
			return "'null'"
		}
		return "'" + *s + "'"
	}
	return model.Errorf("ScanNotFoundException", "Image scan does not exist for the image with '{imageDigest:%s, imageTag:%s}' in the repository with name '%s' "+
		"in the registry with id '%s'", quote(id.ImageDigest), quote(id.ImageTag), repo, a.Scope.Account)
}

func (a *api) describeImageScanFindings(ctx context.Context, in *ecr.DescribeImageScanFindingsInput) (*ecr.DescribeImageScanFindingsOutput, error) {
	repo, img, err := a.one(in.RegistryId, in.RepositoryName, in.ImageId)
	if err != nil {
		return nil, err
	}
	if a.Scanner == nil {
		return nil, a.noScan(repo.Name, *in.ImageId)
	}
	status, found, err := a.Scanner.Findings(ctx, img)
	if model.ErrorCode(err) == "ScanNotFoundException" {
		return nil, a.noScan(repo.Name, *in.ImageId)
	}
	if err != nil {
		return nil, err
	}
	out := &ecr.DescribeImageScanFindingsOutput{ImageId: &types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: in.ImageId.ImageTag}, ImageScanStatus: status,
		RegistryId: &a.Scope.Account, RepositoryName: &repo.Name}
	if found != nil {
		cut := *found
		if len(cut.EnhancedFindings) > 0 {
			cut.EnhancedFindings, out.NextToken, err = page(cut.EnhancedFindings, in.MaxResults, in.NextToken, func(f types.EnhancedImageScanFinding) string { return *f.FindingArn })
		} else {
			cut.Findings, out.NextToken, err = page(cut.Findings, in.MaxResults, in.NextToken, func(f types.ImageScanFinding) string { return *f.Name })
		}
		out.ImageScanFindings = &cut
	}
	return out, err
}
