/**
 * Reads what a Secret and a CA object hold into what a request needs. Pure: the objects are arguments. The result lives in
 * memory only; no message here ever holds a value.
 */
import { X509Certificate } from 'node:crypto';
import { SourceError } from './http-errors.ts';
import type { SourceCredentials } from './source.ts';

/** The content of a Secret or ConfigMap, decoded. Undefined: the object is not there. */
export type KeyedText = Readonly<Record<string, string>> | undefined;

export interface CredentialInput {
  readonly namespace: string;
  readonly secretRef?: { readonly name: string } | undefined;
  readonly secret?: KeyedText;
  readonly caBundleRef?:
    | { readonly kind: string; readonly name: string; readonly key?: string | undefined }
    | undefined;
  readonly caObject?: KeyedText;
}

/** Keys that hold a bearer token, in the order in which they are looked for. */
const TOKEN_KEYS = ['HF_TOKEN', 'token', 'bearer'] as const;

/** Decodes `Secret.data`. */
export function decodeSecret(data: Readonly<Record<string, string>> | undefined): Record<string, string> {
  return Object.fromEntries(
    Object.entries(data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]),
  );
}

/** Headers and CA bundle for a source. Throws a {@link SourceError} with SecretNotFound that says what is missing. */
export function makeCredentials(input: CredentialInput): SourceCredentials {
  const headers =
    input.secretRef === undefined ? {} : authorization(input.namespace, input.secretRef.name, input.secret);
  if (input.caBundleRef === undefined) return { headers };
  return { headers, caBundle: caBundle(input.namespace, input.caBundleRef, input.caObject) };
}

function authorization(namespace: string, name: string, secret: KeyedText): Record<string, string> {
  if (secret === undefined) {
    throw missing(`source.secretRef names the Secret ${name}, which is not in namespace ${namespace}: create it there`);
  }
  for (const key of TOKEN_KEYS) {
    const token = secret[key]?.trim();
    if (token) return { authorization: `Bearer ${headerSafe(token, name, key)}` };
  }
  const { username, password } = secret;
  if (username !== undefined && password !== undefined) {
    if (username.includes(':')) {
      throw missing(
        `the Secret ${name} in namespace ${namespace} has a username with a colon, which HTTP cannot carry`,
      );
    }
    const pair = Buffer.from(`${username.replace(/\n$/, '')}:${password.replace(/\n$/, '')}`).toString('base64');
    return { authorization: `Basic ${pair}` };
  }
  throw missing(
    `the Secret ${name} in namespace ${namespace} has no key that is known here: put the token under HF_TOKEN, token or bearer, or use username and password`,
  );
}

function headerSafe(token: string, name: string, key: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw missing(
    `the key ${key} of the Secret ${name} is no token: it has blanks, line breaks or letters beyond ASCII in it`,
  );
}

function caBundle(namespace: string, ref: NonNullable<CredentialInput['caBundleRef']>, object: KeyedText): string {
  const where = `${ref.kind} ${ref.name}`;
  const key = ref.key ?? 'ca.crt';
  if (object === undefined) {
    throw missing(`source.caBundleRef names the ${where}, which is not in namespace ${namespace}: create it there`);
  }
  const bundle = object[key];
  if (bundle === undefined || bundle.trim() === '') {
    throw missing(
      `the ${where} in namespace ${namespace} has no key ${key}: put the PEM certificates there, or name the key in source.caBundleRef.key`,
    );
  }
  const blocks = bundle.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0 || !blocks.every(isCertificate)) {
    throw missing(
      `the key ${key} of the ${where} in namespace ${namespace} holds no PEM certificates (-----BEGIN CERTIFICATE-----)`,
    );
  }
  return `${blocks.join('\n')}\n`;
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).subject !== undefined;
  } catch {
    return false;
  }
}

function missing(message: string): SourceError {
  return new SourceError({ reason: 'SecretNotFound', message, terminal: true });
}
