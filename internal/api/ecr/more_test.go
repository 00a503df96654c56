package ecr_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/ecr"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// refused checks the name of an error and a part of its text.
func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), text) {
		t.Errorf("got %v, want %s: %s", err, code, text)
	}
}

func TestLayersArriveInParts(t *testing.T) {
	r := newRig(t)
	r.create("app")
	repo := aws.String("app")
	content := bytes.Repeat([]byte("0123456789abcdef"), 6<<20/16)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	begun := wiretest.Must[*awsecr.InitiateLayerUploadOutput](t)(r.InitiateLayerUpload(ctx, &awsecr.InitiateLayerUploadInput{RepositoryName: repo}))
	part := func(from, to int) error {
		_, err := r.UploadLayerPart(ctx, &awsecr.UploadLayerPartInput{RepositoryName: repo, UploadId: begun.UploadId, LayerPartBlob: content[from:to],
			PartFirstByte: aws.Int64(int64(from)), PartLastByte: aws.Int64(int64(to - 1))})
		return err
	}
	complete := func(digests ...string) error {
		_, err := r.CompleteLayerUpload(ctx, &awsecr.CompleteLayerUploadInput{RepositoryName: repo, UploadId: begun.UploadId, LayerDigests: digests})
		return err
	}
	refused(t, complete(digest), "EmptyUploadException", "does not contain any layer parts")
	if err := part(0, 5<<20); err != nil {
		t.Fatal(err)
	}
	err := part(0, 10)
	refused(t, err, "InvalidLayerPartException", "5242880 bytes")
	if e, ok := errors.AsType[*types.InvalidLayerPartException](err); !ok || *e.LastValidByteReceived != 5<<20-1 {
		t.Errorf("the last valid byte: %+v", err)
	}
	if err := part(5<<20, len(content)); err != nil {
		t.Fatal(err)
	}
	refused(t, complete(digest, "sha256:"+strings.Repeat("1", 64)), "InvalidLayerException", "does not match")
	long := fmt.Sprintf("sha512:%x", sha512.Sum512(content))
	if err := complete(digest, digest, long); err != nil {
		t.Fatal(err)
	}
	if size, err := r.reg.Layer(ctx, "app", long); err != nil || size != int64(len(content)) {
		t.Errorf("under its other digest: %d %v", size, err)
	}
	refused(t, complete(digest), "LayerAlreadyExistsException", "already exists")
	got := wiretest.Must[*awsecr.BatchCheckLayerAvailabilityOutput](t)(r.BatchCheckLayerAvailability(ctx, &awsecr.BatchCheckLayerAvailabilityInput{RepositoryName: repo,
		LayerDigests: []string{digest, "sha256:" + strings.Repeat("0", 64), "junk"}}))
	if len(got.Layers) != 2 || got.Layers[0].LayerAvailability != types.LayerAvailabilityAvailable || *got.Layers[0].LayerSize != int64(len(content)) ||
		got.Layers[1].LayerAvailability != types.LayerAvailabilityUnavailable || len(got.Failures) != 1 {
		t.Errorf("availability %+v", got)
	}
	url := wiretest.Must[*awsecr.GetDownloadUrlForLayerOutput](t)(r.GetDownloadUrlForLayer(ctx, &awsecr.GetDownloadUrlForLayerInput{RepositoryName: repo, LayerDigest: &digest})).DownloadUrl
	path := strings.TrimPrefix(*url, "http://localhost:4566")
	for p, want := range map[string]int{path: 200, path + "0": 401, strings.Replace(path, "until=1", "until=2", 1): 401} {
		w := httptest.NewRecorder()
		if r.reg.ServeHTTP(w, httptest.NewRequest(http.MethodGet, p, nil)); w.Code != want || want == 200 && !bytes.Equal(w.Body.Bytes(), content) {
			t.Errorf("%s: %d, want %d", p, w.Code, want)
		}
	}
	r.now = r.now.Add(2 * time.Hour)
	w := httptest.NewRecorder()
	if r.reg.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil)); w.Code != 401 {
		t.Errorf("after two hours: %d", w.Code)
	}
	begun = wiretest.Must[*awsecr.InitiateLayerUploadOutput](t)(r.InitiateLayerUpload(ctx, &awsecr.InitiateLayerUploadInput{RepositoryName: repo}))
	for _, p := range [][2]int{{0, 10}, {10, 20}} {
		if err := part(p[0], p[1]); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, complete("sha256:"+strings.Repeat("1", 64)), "LayerPartTooSmallException", "at least 5 MiB")
	refused(t, complete("sha256:"+strings.Repeat("1", 64)), "InvalidLayerException", "does not match")
	begun.UploadId = aws.String("nope")
	refused(t, part(0, 10), "UploadNotFoundException", "could not be found")
}

func TestTagMutabilityWithExclusions(t *testing.T) {
	r := newRig(t)
	r.create("app")
	filters := []types.ImageTagMutabilityExclusionFilter{{Filter: aws.String("dev-*"), FilterType: types.ImageTagMutabilityExclusionFilterTypeWildcard}}
	set := func(m types.ImageTagMutability, f []types.ImageTagMutabilityExclusionFilter) error {
		_, err := r.PutImageTagMutability(ctx, &awsecr.PutImageTagMutabilityInput{RepositoryName: aws.String("app"), ImageTagMutability: m, ImageTagMutabilityExclusionFilters: f})
		return err
	}
	refused(t, set(types.ImageTagMutabilityMutable, filters), "InvalidParameterException", "may be given")
	refused(t, set(types.ImageTagMutabilityImmutableWithExclusion, nil), "InvalidParameterException", "must be given")
	push := func(tag string, n int) error {
		m := r.manifest("app", n)
		_, err := r.PutImage(ctx, &awsecr.PutImageInput{RepositoryName: aws.String("app"), ImageManifest: &m, ImageTag: &tag})
		return err
	}
	n := 0
	for _, c := range []struct {
		m         types.ImageTagMutability
		dev, prod bool // stay
	}{{types.ImageTagMutabilityImmutableWithExclusion, false, true}, {types.ImageTagMutabilityMutableWithExclusion, true, false}} {
		if err := set(c.m, filters); err != nil {
			t.Fatal(err)
		}
		for tag, stays := range map[string]bool{fmt.Sprint("dev-", n): c.dev, fmt.Sprint("prod-", n): c.prod} {
			n += 2
			if err := push(tag, n); err != nil {
				t.Fatal(err)
			}
			if err := push(tag, n+1); (err != nil) != stays {
				t.Errorf("%s: pushing %s again: %v", c.m, tag, err)
			} else if stays {
				refused(t, err, "ImageTagAlreadyExistsException", "cannot be overwritten because the repository is immutable")
			}
		}
	}
}

const untagged = `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]}`

func TestLifecycle(t *testing.T) {
	r := newRig(t)
	r.create("app")
	repo := aws.String("app")
	var digests []string
	for i := range 4 {
		r.now = r.now.Add(time.Hour)
		digests = append(digests, r.put("app", "", r.manifest("app", i)))
	}
	err := r.store.Update(ctx, func(tx store.Tx) error { // a task runs the oldest
		store.Tasks.Put(tx, &model.Task{ID: "t", NodeID: "n", Observed: model.Observed{Containers: []model.Container{{Image: "localhost:4566/app@" + digests[0], ImageDigest: digests[0]}}}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.GetLifecyclePolicy(ctx, &awsecr.GetLifecyclePolicyInput{RepositoryName: repo})
	refused(t, err, "LifecyclePolicyNotFoundException", "Lifecycle policy does not exist for the repository with name 'app' in the registry with id '000000000000'")
	_, err = r.GetLifecyclePolicyPreview(ctx, &awsecr.GetLifecyclePolicyPreviewInput{RepositoryName: repo})
	refused(t, err, "LifecyclePolicyPreviewNotFoundException", "preview does not exist")
	_, err = r.PutLifecyclePolicy(ctx, &awsecr.PutLifecyclePolicyInput{RepositoryName: repo, LifecyclePolicyText: aws.String(`{"rules":[]}`)})
	refused(t, err, "InvalidParameterException", "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy validation failure: ")
	begun := wiretest.Must[*awsecr.StartLifecyclePolicyPreviewOutput](t)(r.StartLifecyclePolicyPreview(ctx, &awsecr.StartLifecyclePolicyPreviewInput{RepositoryName: repo, LifecyclePolicyText: aws.String(untagged)}))
	if begun.Status != types.LifecyclePolicyPreviewStatusInProgress {
		t.Errorf("begun %s", begun.Status)
	}
	preview := wiretest.Must[*awsecr.GetLifecyclePolicyPreviewOutput](t)(r.GetLifecyclePolicyPreview(ctx, &awsecr.GetLifecyclePolicyPreviewInput{RepositoryName: repo}))
	actions := map[string]bool{}
	for _, p := range preview.PreviewResults {
		actions[*p.ImageDigest] = p.Action != nil
	}
	if preview.Status != types.LifecyclePolicyPreviewStatusComplete || *preview.Summary.ExpiringImageTotalCount != 2 || len(actions) != 3 || actions[digests[0]] || !actions[digests[1]] {
		t.Errorf("preview %+v", preview)
	}
	wiretest.Must[*awsecr.PutLifecyclePolicyOutput](t)(r.PutLifecyclePolicy(ctx, &awsecr.PutLifecyclePolicyInput{RepositoryName: repo, LifecyclePolicyText: aws.String(untagged)}))
	left := wiretest.Must[*awsecr.DescribeImagesOutput](t)(r.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: repo})).ImageDetails
	if len(left) != 2 {
		t.Errorf("%d images are left", len(left))
	}
	got := wiretest.Must[*awsecr.GetLifecyclePolicyOutput](t)(r.GetLifecyclePolicy(ctx, &awsecr.GetLifecyclePolicyInput{RepositoryName: repo}))
	if *got.LifecyclePolicyText != untagged || !got.LastEvaluatedAt.Equal(r.now) {
		t.Errorf("got %+v", got)
	}
	wiretest.Must[*awsecr.DeleteLifecyclePolicyOutput](t)(r.DeleteLifecyclePolicy(ctx, &awsecr.DeleteLifecyclePolicyInput{RepositoryName: repo}))
	_, err = r.DeleteLifecyclePolicy(ctx, &awsecr.DeleteLifecyclePolicyInput{RepositoryName: repo})
	refused(t, err, "LifecyclePolicyNotFoundException", "app")
}

const allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"ecr:*"}]}`

func TestPolicies(t *testing.T) {
	r := newRig(t)
	r.create("app")
	repo := aws.String("app")
	_, err := r.GetRepositoryPolicy(ctx, &awsecr.GetRepositoryPolicyInput{RepositoryName: repo})
	refused(t, err, "RepositoryPolicyNotFoundException", "Repository policy does not exist for the repository with name 'app' in the registry with id '000000000000'")
	_, err = r.SetRepositoryPolicy(ctx, &awsecr.SetRepositoryPolicyInput{RepositoryName: repo, PolicyText: aws.String("{")})
	refused(t, err, "InvalidParameterException", "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'")
	wiretest.Must[*awsecr.SetRepositoryPolicyOutput](t)(r.SetRepositoryPolicy(ctx, &awsecr.SetRepositoryPolicyInput{RepositoryName: repo, PolicyText: aws.String(allowAll)}))
	if got := wiretest.Must[*awsecr.GetRepositoryPolicyOutput](t)(r.GetRepositoryPolicy(ctx, &awsecr.GetRepositoryPolicyInput{RepositoryName: repo})); *got.PolicyText != allowAll {
		t.Errorf("got %s", *got.PolicyText)
	}
	wiretest.Must[*awsecr.DeleteRepositoryPolicyOutput](t)(r.DeleteRepositoryPolicy(ctx, &awsecr.DeleteRepositoryPolicyInput{RepositoryName: repo}))
	_, err = r.GetRegistryPolicy(ctx, nil)
	refused(t, err, "RegistryPolicyNotFoundException", "Registry policy does not exist in the registry with id '000000000000'")
	wiretest.Must[*awsecr.PutRegistryPolicyOutput](t)(r.PutRegistryPolicy(ctx, &awsecr.PutRegistryPolicyInput{PolicyText: aws.String(allowAll)}))
	wiretest.Must[*awsecr.GetRegistryPolicyOutput](t)(r.GetRegistryPolicy(ctx, nil))
	wiretest.Must[*awsecr.DeleteRegistryPolicyOutput](t)(r.DeleteRegistryPolicy(ctx, nil))
	_, err = r.DeleteRegistryPolicy(ctx, nil)
	refused(t, err, "RegistryPolicyNotFoundException", "")
}

func TestSettings(t *testing.T) {
	r := newRig(t)
	r.create("app")
	digest := r.put("app", "v1", r.manifest("app", 1))
	name := aws.String("BLOB_MOUNTING")
	wiretest.Must[*awsecr.PutAccountSettingOutput](t)(r.PutAccountSetting(ctx, &awsecr.PutAccountSettingInput{Name: name, Value: aws.String("DISABLED")}))
	if got := wiretest.Must[*awsecr.GetAccountSettingOutput](t)(r.GetAccountSetting(ctx, &awsecr.GetAccountSettingInput{Name: name})); *got.Value != "DISABLED" {
		t.Errorf("setting %s", *got.Value)
	}
	who := aws.String("arn:aws:iam::000000000000:role/scanner")
	wiretest.Must[*awsecr.RegisterPullTimeUpdateExclusionOutput](t)(r.RegisterPullTimeUpdateExclusion(ctx, &awsecr.RegisterPullTimeUpdateExclusionInput{PrincipalArn: who}))
	_, err := r.RegisterPullTimeUpdateExclusion(ctx, &awsecr.RegisterPullTimeUpdateExclusionInput{PrincipalArn: who})
	refused(t, err, "ExclusionAlreadyExistsException", "scanner")
	if got := wiretest.Must[*awsecr.ListPullTimeUpdateExclusionsOutput](t)(r.ListPullTimeUpdateExclusions(ctx, nil)); len(got.PullTimeUpdateExclusions) != 1 {
		t.Errorf("exclusions %v", got.PullTimeUpdateExclusions)
	}
	wiretest.Must[*awsecr.DeregisterPullTimeUpdateExclusionOutput](t)(r.DeregisterPullTimeUpdateExclusion(ctx, &awsecr.DeregisterPullTimeUpdateExclusionInput{PrincipalArn: who}))
	profile := aws.String("arn:aws:signer:us-east-1:000000000000:/signing-profiles/shop")
	_, err = r.GetSigningConfiguration(ctx, nil)
	refused(t, err, "SigningConfigurationNotFoundException", "")
	wiretest.Must[*awsecr.PutSigningConfigurationOutput](t)(r.PutSigningConfiguration(ctx, &awsecr.PutSigningConfigurationInput{
		SigningConfiguration: &types.SigningConfiguration{Rules: []types.SigningRule{{SigningProfileArn: profile}}}}))
	id := &types.ImageIdentifier{ImageTag: aws.String("v1")}
	signed := wiretest.Must[*awsecr.DescribeImageSigningStatusOutput](t)(r.DescribeImageSigningStatus(ctx, &awsecr.DescribeImageSigningStatusInput{RepositoryName: aws.String("app"), ImageId: id}))
	if len(signed.SigningStatuses) != 1 || signed.SigningStatuses[0].Status != types.SigningStatusFailed {
		t.Errorf("signing %+v", signed)
	}
	wiretest.Must[*awsecr.DeleteSigningConfigurationOutput](t)(r.DeleteSigningConfiguration(ctx, nil))
	move := &awsecr.UpdateImageStorageClassInput{RepositoryName: aws.String("app"), ImageId: id, TargetStorageClass: types.TargetStorageClassArchive}
	if got := wiretest.Must[*awsecr.UpdateImageStorageClassOutput](t)(r.UpdateImageStorageClass(ctx, move)); got.ImageStatus != types.ImageStatusArchived {
		t.Errorf("status %s", got.ImageStatus)
	}
	_, err = r.UpdateImageStorageClass(ctx, move)
	refused(t, err, "ImageStorageClassUpdateNotSupportedException", "ARCHIVE already")
	if _, err := r.reg.GetManifest(ctx, "app", digest); err == nil || !strings.Contains(err.Error(), "archived") {
		t.Errorf("an archived image is pulled: %v", err)
	}
	filter := &types.DescribeImagesFilter{ImageStatus: types.ImageStatusFilterArchived}
	if got := wiretest.Must[*awsecr.DescribeImagesOutput](t)(r.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: aws.String("app"), Filter: filter})); len(got.ImageDetails) != 1 {
		t.Errorf("archived %+v", got.ImageDetails)
	}
	subject := r.put("app", "v2", r.manifest("app", 2))
	signature := strings.Replace(r.manifest("app", 3), `"layers"`, fmt.Sprintf(`"artifactType":"application/sig","subject":{"mediaType":%q,"digest":%q,"size":9},"layers"`, manifestType, subject), 1)
	r.put("app", "", signature)
	refs := wiretest.Must[*awsecr.ListImageReferrersOutput](t)(r.ListImageReferrers(ctx, &awsecr.ListImageReferrersInput{RepositoryName: aws.String("app"), SubjectId: &types.SubjectIdentifier{ImageDigest: &subject}}))
	if len(refs.Referrers) != 1 || *refs.Referrers[0].ArtifactType != "application/sig" || *refs.Referrers[0].Size != int64(len(signature)) {
		t.Errorf("referrers %+v", refs.Referrers)
	}
}

func TestTemplatesAndRules(t *testing.T) {
	r := newRig(t)
	in := &awsecr.CreateRepositoryCreationTemplateInput{Prefix: aws.String("team"), AppliedFor: []types.RCTAppliedFor{types.RCTAppliedForCreateOnPush},
		ImageTagMutability: types.ImageTagMutabilityImmutable, LifecyclePolicy: aws.String(untagged)}
	wiretest.Must[*awsecr.CreateRepositoryCreationTemplateOutput](t)(r.CreateRepositoryCreationTemplate(ctx, in))
	_, err := r.CreateRepositoryCreationTemplate(ctx, in)
	refused(t, err, "TemplateAlreadyExistsException", "team")
	up := wiretest.Must[*awsecr.UpdateRepositoryCreationTemplateOutput](t)(r.UpdateRepositoryCreationTemplate(ctx, &awsecr.UpdateRepositoryCreationTemplateInput{Prefix: in.Prefix, Description: aws.String("d")}))
	if *up.RepositoryCreationTemplate.Description != "d" || *up.RepositoryCreationTemplate.LifecyclePolicy != untagged {
		t.Errorf("updated %+v", up)
	}
	if got := wiretest.Must[*awsecr.DescribeRepositoryCreationTemplatesOutput](t)(r.DescribeRepositoryCreationTemplates(ctx, nil)); len(got.RepositoryCreationTemplates) != 1 {
		t.Errorf("templates %+v", got)
	}
	wiretest.Must[*awsecr.DeleteRepositoryCreationTemplateOutput](t)(r.DeleteRepositoryCreationTemplate(ctx, &awsecr.DeleteRepositoryCreationTemplateInput{Prefix: in.Prefix}))
	_, err = r.DeleteRepositoryCreationTemplate(ctx, &awsecr.DeleteRepositoryCreationTemplateInput{Prefix: in.Prefix})
	refused(t, err, "TemplateNotFoundException", "team")

	rule := &awsecr.CreatePullThroughCacheRuleInput{EcrRepositoryPrefix: aws.String("hub"), UpstreamRegistryUrl: aws.String("registry-1.docker.io")}
	if got := wiretest.Must[*awsecr.CreatePullThroughCacheRuleOutput](t)(r.CreatePullThroughCacheRule(ctx, rule)); got.UpstreamRegistry != types.UpstreamRegistryDockerHub {
		t.Errorf("rule %+v", got)
	}
	_, err = r.CreatePullThroughCacheRule(ctx, rule)
	refused(t, err, "PullThroughCacheRuleAlreadyExistsException", "hub")
	_, err = r.UpdatePullThroughCacheRule(ctx, &awsecr.UpdatePullThroughCacheRuleInput{EcrRepositoryPrefix: rule.EcrRepositoryPrefix, CredentialArn: aws.String("arn:aws:secretsmanager:us-east-1:000000000000:secret:x")})
	refused(t, err, "InvalidParameterException", "credentialArn")
	if got := wiretest.Must[*awsecr.ValidatePullThroughCacheRuleOutput](t)(r.ValidatePullThroughCacheRule(ctx, &awsecr.ValidatePullThroughCacheRuleInput{EcrRepositoryPrefix: rule.EcrRepositoryPrefix})); got.IsValid || *got.Failure == "" {
		t.Errorf("validated %+v", got)
	}
	if got := wiretest.Must[*awsecr.DescribePullThroughCacheRulesOutput](t)(r.DescribePullThroughCacheRules(ctx, nil)); len(got.PullThroughCacheRules) != 1 {
		t.Errorf("rules %+v", got)
	}
	wiretest.Must[*awsecr.DeletePullThroughCacheRuleOutput](t)(r.DeletePullThroughCacheRule(ctx, &awsecr.DeletePullThroughCacheRuleInput{EcrRepositoryPrefix: rule.EcrRepositoryPrefix}))
	_, err = r.DeletePullThroughCacheRule(ctx, &awsecr.DeletePullThroughCacheRuleInput{EcrRepositoryPrefix: rule.EcrRepositoryPrefix})
	refused(t, err, "PullThroughCacheRuleNotFoundException", "hub")
}

func TestReplicationNeedsAPeer(t *testing.T) {
	r := newRig(t)
	put := func(region, id string) error {
		_, err := r.PutReplicationConfiguration(ctx, &awsecr.PutReplicationConfigurationInput{ReplicationConfiguration: &types.ReplicationConfiguration{
			Rules: []types.ReplicationRule{{Destinations: []types.ReplicationDestination{{Region: &region, RegistryId: &id}}}}}})
		return err
	}
	refused(t, put("us-east-1", scope.Account), "InvalidParameterException", "Replication destination cannot be the same as the source registry")
	refused(t, put("eu-west-1", scope.Account), "InvalidParameterException", "registry-peers.json")
	if got := wiretest.Must[*awsecr.DescribeRegistryOutput](t)(r.DescribeRegistry(ctx, nil)); *got.RegistryId != scope.Account || len(got.ReplicationConfiguration.Rules) != 0 {
		t.Errorf("registry %+v", got)
	}
	_, err := r.StopReplicationBackfill(ctx, &awsecr.StopReplicationBackfillInput{ReplicationBackfillId: aws.String("x")})
	refused(t, err, "ReplicationBackfillNotFoundException", "x")
}

func TestScanningIsRefusedWithoutAScanner(t *testing.T) {
	r := newRig(t)
	r.create("app")
	r.put("app", "v1", r.manifest("app", 1))
	_, err := r.PutImageScanningConfiguration(ctx, &awsecr.PutImageScanningConfigurationInput{RepositoryName: aws.String("app"), ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: true}})
	refused(t, err, "InvalidParameterException", "does not scan")
	_, err = r.DescribeImageScanFindings(ctx, &awsecr.DescribeImageScanFindingsInput{RepositoryName: aws.String("app"), ImageId: &types.ImageIdentifier{ImageTag: aws.String("v1")}})
	refused(t, err, "ScanNotFoundException", "Image scan does not exist for the image with '{imageDigest:'null', imageTag:'v1'}' in the repository with name 'app' in the registry with id '000000000000'")
	got := wiretest.Must[*awsecr.BatchGetRepositoryScanningConfigurationOutput](t)(r.BatchGetRepositoryScanningConfiguration(ctx, &awsecr.BatchGetRepositoryScanningConfigurationInput{RepositoryNames: []string{"app", "none"}}))
	if len(got.ScanningConfigurations) != 1 || len(got.Failures) != 1 || got.ScanningConfigurations[0].ScanFrequency != types.ScanFrequencyManual {
		t.Errorf("got %+v", got)
	}
	if got := wiretest.Must[*awsecr.GetRegistryScanningConfigurationOutput](t)(r.GetRegistryScanningConfiguration(ctx, nil)); got.ScanningConfiguration.ScanType != types.ScanTypeBasic {
		t.Errorf("got %+v", got)
	}
}

// usable knows one key that is enabled.
type usable struct{}

func (usable) UsableKey(_ context.Context, name string) (string, error) {
	if name == "alias/off" {
		return "", model.Errorf("DisabledException", "the key is disabled.")
	}
	return "arn:aws:kms:us-east-1:000000000000:key/" + name, nil
}

func TestRepositoriesAreEncryptedWithKeys(t *testing.T) {
	r := newRig(t)
	c := awsecr.NewFromConfig(wiretest.Serve(t, ecr.New(ecr.Config{Store: r.store, Scope: scope, Manifests: r.reg, Layers: r.reg, Tokens: r.keys, Keys: usable{},
		Host: "localhost:4566", Now: time.Now, Log: slog.New(slog.DiscardHandler)})))
	create := func(name string, e types.EncryptionConfiguration) (*awsecr.CreateRepositoryOutput, error) {
		return c.CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: &name, EncryptionConfiguration: &e})
	}
	made := wiretest.Must[*awsecr.CreateRepositoryOutput](t)(create("one", types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeKms}))
	if e := made.Repository.EncryptionConfiguration; *e.KmsKey != "arn:aws:kms:us-east-1:000000000000:key/alias/aws/ecr" || e.EncryptionType != types.EncryptionTypeKms {
		t.Errorf("made %+v", e)
	}
	_, err := create("two", types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeKmsDsse, KmsKey: aws.String("alias/off")})
	if e, ok := errors.AsType[*types.KmsException](err); !ok || *e.KmsError != "DisabledException" {
		t.Errorf("a disabled key: %v", err)
	}
	_, err = create("three", types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeAes256, KmsKey: aws.String("x")})
	refused(t, err, "InvalidParameterException", "kmsKey")
	made = wiretest.Must[*awsecr.CreateRepositoryOutput](t)(create("four", types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeAes256}))
	if e := made.Repository.EncryptionConfiguration; e == nil || e.EncryptionType != types.EncryptionTypeAes256 || e.KmsKey != nil {
		t.Errorf("made %+v", e)
	}
	always := awsecr.NewFromConfig(wiretest.Serve(t, ecr.New(ecr.Config{Store: r.store, Scope: scope, Manifests: r.reg, Layers: r.reg, Tokens: r.keys, Keys: usable{},
		Encrypt: true, Host: "localhost:4566", Now: time.Now, Log: slog.New(slog.DiscardHandler)})))
	made = wiretest.Must[*awsecr.CreateRepositoryOutput](t)(always.CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: aws.String("five")}))
	if e := made.Repository.EncryptionConfiguration; e == nil || e.EncryptionType != types.EncryptionTypeAes256 {
		t.Errorf("made %+v", e)
	}
}

// TestTenThousandImagesAreDescribed within a second (a promise of the registry's).
func TestTenThousandImagesAreDescribed(t *testing.T) {
	r := newRig(t)
	r.create("app")
	err := r.store.Update(ctx, func(tx store.Tx) error {
		for i := range 10_000 {
			store.Images.Put(tx, &model.Image{Repository: "app", Digest: fmt.Sprintf("sha256:%064x", i), MediaType: manifestType, Tags: []string{fmt.Sprint("v", i)}, PushedAt: r.now})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	began, n := time.Now(), 0
	for pages := awsecr.NewDescribeImagesPaginator(r.Client, &awsecr.DescribeImagesInput{RepositoryName: aws.String("app"), MaxResults: aws.Int32(1000)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.ImageDetails)
	}
	took := time.Since(began)
	t.Logf("%d images in %s", n, took)
	if n != 10_000 || took > 5*time.Second { // a second on a machine that has nothing else to do
		t.Errorf("%d images in %s", n, took)
	}
}
