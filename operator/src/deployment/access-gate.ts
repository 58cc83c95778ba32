/** Whether clients could be let in: what pods mount for their keys, certificate and token reviews is there. Pure. */
import type { DeploymentGate } from './gate.ts';
import { apiKeySecretName, tlsSecretName } from './names.ts';
import type { Observed } from './observed.ts';

/** Closed when pods could let nobody in, or would not even start. */
export function accessGate({ deployment, apiKeys, tls, broker }: Observed): DeploymentGate {
  if (apiKeys.state === 'missing') {
    return {
      open: false,
      reason: 'APIKeySecretNotFound',
      why: `there is no Secret ${apiKeySecretName(deployment)} in namespace ${deployment.metadata.namespace}; create it with one API key a value, or leave out spec.auth.secretRef`,
    };
  }
  if (tls.state === 'missing' || tls.state === 'unusable') {
    const where = `Secret ${tlsSecretName(deployment)} in namespace ${deployment.metadata.namespace}`;
    const why =
      tls.state === 'missing'
        ? `there is no ${where}; create it with kubectl create secret tls, or leave out spec.tls`
        : `${where} lacks ${tls.lacks.join(' and ')}: it must be of type kubernetes.io/tls`;
    return { open: false, reason: 'TLSSecretNotFound', why };
  }
  if (broker.state === 'missing') {
    return { open: false, reason: 'BrokerNotReady', why: `tokens cannot be reviewed yet: ${broker.why}` };
  }
  return { open: true };
}
