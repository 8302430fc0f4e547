/** Certificates of an authority of the test's own, made by `openssl`. */
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface TestCertificate {
  /** Of the authority: `ca.pem` in the folder, made once. */
  ca: string
  cert: string
  key: string
}

/** Of an application at Microsoft Entra ID: PEM of a certificate and of its private key. */
export function applicationCertificate(kind: 'rsa:2048' | 'ec' = 'rsa:2048'): {
  pem: string
  certificate: string
} {
  const curve = kind === 'ec' ? ['-pkeyopt', 'ec_paramgen_curve:P-256'] : []
  const pem = execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      kind,
      ...curve,
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=holdfast',
      '-keyout',
      '-',
      '-out',
      '-',
    ],
    { stdio: ['ignore', 'pipe', 'ignore'], encoding: 'utf8' },
  )
  return { pem, certificate: pem.slice(pem.indexOf('-----BEGIN CERTIFICATE-----')) }
}

/** `names` as openssl has them: `IP:127.0.0.1,DNS:holdfast.example`. One of before is replaced. */
export function makeCertificate(folder: string, name: string, names: string): TestCertificate {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  const fresh = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  if (!existsSync(join(folder, 'ca.pem'))) {
    openssl(
      'req',
      '-x509',
      ...fresh,
      '-days',
      '2',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
      '-subj',
      '/CN=Test CA',
    )
  }
  openssl('req', ...fresh, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`)
  writeFileSync(join(folder, `${name}.names`), `subjectAltName=${names}`)
  const by = [
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-extfile',
    `${name}.names`,
    '-days',
    '2',
  ]
  openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.pem`, ...by)
  return { ca: join(folder, 'ca.pem'), cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) }
}
