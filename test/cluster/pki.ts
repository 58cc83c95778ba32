/**
 * Owns the certificates of a test cluster: one authority, what it signs, and the key of service account tokens.
 * In memory only; who starts a cluster writes the files. Not for production: keys lie unencrypted, valid for ten years.
 */
import 'reflect-metadata';
import { generateKeyPairSync, type webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';

/** A certificate and its private key, PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

/** What a certificate says. */
export interface CertificateRequest {
  /** Common name: the user name that Kubernetes sees in a client certificate. */
  readonly name: string;
  /** Organisations: the groups that Kubernetes sees. */
  readonly groups?: readonly string[];
  /** DNS names and IP addresses under which a server is reached. */
  readonly hosts?: readonly string[];
}

/** Signs certificates. */
export interface Authority {
  /** Certificate and key of the authority itself, PEM. */
  readonly self: KeyPair;
  /** Makes a key and signs a certificate for it, valid as client and as server. */
  issue(request: CertificateRequest): Promise<KeyPair>;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const YEARS = 10;

/** Makes a new authority, or continues the one whose PEM texts are given. */
export async function makeAuthority(known?: KeyPair): Promise<Authority> {
  const authority = known ? await load(known) : await selfSigned();
  return {
    self: known ?? (await toPem(authority.certificate, authority.keys.privateKey)),
    async issue({ name, groups = [], hosts = [] }) {
      const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
      const names = hosts.map((host) => ({ type: isIP(host) ? ('ip' as const) : ('dns' as const), value: host }));
      const certificate = await x509.X509CertificateGenerator.create({
        ...validity(),
        serialNumber: serialNumber(),
        subject: [{ CN: [name] }, ...groups.map((group) => ({ O: [group] }))],
        issuer: authority.certificate.subject,
        publicKey: keys.publicKey,
        signingKey: authority.keys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth, x509.ExtendedKeyUsage.serverAuth]),
          ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
        ],
      });
      return toPem(certificate, keys.privateKey);
    },
  };
}

/** Makes the key pair that signs and checks service account tokens, PEM. */
export function makeTokenKeys(): { readonly privateKey: string; readonly publicKey: string } {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'sec1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
}

interface Signer {
  readonly certificate: x509.X509Certificate;
  readonly keys: { readonly privateKey: webcrypto.CryptoKey };
}

async function selfSigned(): Promise<Signer> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(),
    serialNumber: serialNumber(),
    name: 'CN=slm-operator test authority',
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign | x509.KeyUsageFlags.digitalSignature,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate, keys };
}

async function load({ certificate, key }: KeyPair): Promise<Signer> {
  const der = x509.PemConverter.decodeFirst(key);
  const privateKey = await crypto.subtle.importKey('pkcs8', der, ALGORITHM, true, ['sign']);
  return { certificate: new x509.X509Certificate(certificate), keys: { privateKey } };
}

async function toPem(certificate: x509.X509Certificate, privateKey: webcrypto.CryptoKey): Promise<KeyPair> {
  const pkcs8 = await crypto.subtle.exportKey('pkcs8', privateKey);
  return {
    certificate: `${certificate.toString('pem')}\n`,
    key: `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`,
  };
}

function validity() {
  // An hour back, for a virtual machine whose clock jumps after a pause.
  const notBefore = new Date(Date.now() - 3_600_000);
  const notAfter = new Date(notBefore);
  notAfter.setFullYear(notAfter.getFullYear() + YEARS);
  return { notBefore, notAfter };
}

function serialNumber(): string {
  // A leading byte below 0x80 keeps the ASN.1 integer positive.
  return `01${Buffer.from(crypto.getRandomValues(new Uint8Array(15))).toString('hex')}`;
}
