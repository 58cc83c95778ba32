/** What a real API server says to an object, in one line. For tests. */
import type { RawApi } from '@slm-operator/test/envtest/crds';

/** 'accepted', or the causes that the API server gives. Makes nothing. */
export async function verdictOf(
  api: RawApi,
  kind: 'SLMModel' | 'SLMDeployment' | 'SLMRollout',
  spec: unknown,
  name = 'x',
): Promise<string> {
  const scope = kind === 'SLMRollout' ? '' : 'namespaces/default/';
  const { status, body } = await api.call(
    'POST',
    `/apis/slm.dev/v1alpha1/${scope}${kind.toLowerCase()}s?dryRun=All&fieldValidation=Strict`,
    { apiVersion: 'slm.dev/v1alpha1', kind, metadata: { name }, spec },
  );
  if (status < 300) return 'accepted';
  const causes = (body['details'] as { causes?: { field: string; message: string }[] } | undefined)?.causes;
  return causes
    ? causes.map((cause) => `${cause.field}: ${cause.message.replace(/^Invalid value: /, '')}`).join('; ')
    : String(body['message']);
}
