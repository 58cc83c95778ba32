/** Owns the text of kubeconfig files that carry their certificates inside, so that one file can be handed on. */
import type { KeyPair } from './pki.ts';

/** Renders a kubeconfig of one cluster, one user and one context. */
export function makeKubeconfig(options: {
  /** Name of the cluster and of the context. */
  readonly name: string;
  /** Such as `https://127.0.0.1:6443`. */
  readonly server: string;
  /** PEM of the authority that signed the server's certificate. */
  readonly authority: string;
  readonly user: string;
  readonly credentials: KeyPair;
}): string {
  const { name, server, authority, user, credentials } = options;
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  // JSON is YAML; kubectl and every client read it.
  return `${JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name, cluster: { server, 'certificate-authority-data': base64(authority) } }],
      users: [
        {
          name: user,
          user: {
            'client-certificate-data': base64(credentials.certificate),
            'client-key-data': base64(credentials.key),
          },
        },
      ],
      contexts: [{ name, context: { cluster: name, user } }],
      'current-context': name,
    },
    null,
    2,
  )}\n`;
}
