/**
 * `npm run formats`: writes the JSON Schemas of docs/formats/ from model/manifest.ts,
 * model/wal-format.ts and model/drill-report.ts. A test checks that they are current.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { signedDrillReportSchema } from '../model/drill-report.ts'
import {
  deletedSchema,
  epochSchema,
  installationSchema,
  keyFileSchema,
  keySidecarSchema,
  kmsKeyFileSchema,
  lockedKeyFileSchema,
  recipientFileSchema,
  signedManifestSchema,
} from '../model/manifest.ts'
import {
  archiverFileSchema,
  archiverRequestSchema,
  signedWalHeaderSchema,
  vouchedArchiverSchema,
  walConfigSchema,
  walStreamSchema,
} from '../model/wal-format.ts'

const directory = join(import.meta.dirname, '../docs/formats')
const documents: Record<string, { title: string; schema: z.ZodType }> = {
  manifest: { title: 'manifest.json: one backup, signed', schema: signedManifestSchema },
  keys: { title: '<attemptId>/keys-<n>.json: wrapped data keys', schema: keySidecarSchema },
  deleted: { title: 'deleted.json: a backup that was given up or deleted', schema: deletedSchema },
  installation: { title: 'installation.json: who first wrote below this prefix', schema: installationSchema },
  epoch: { title: 'epoch-<n>.json: who may write below this prefix', schema: epochSchema },
  'key-file': { title: 'NAME.json in the keys directory: opens backups', schema: keyFileSchema },
  'locked-key-file': {
    title: 'NAME.json in the keys directory: opens backups with a passphrase',
    schema: lockedKeyFileSchema,
  },
  'kms-key-file': {
    title: 'NAME.json in the keys directory: opens backups through a key management service',
    schema: kmsKeyFileSchema,
  },
  recipient: { title: 'NAME.pub.json in the keys directory: encrypts backups', schema: recipientFileSchema },
  'wal-header': { title: 'First line of an archived log file, signed', schema: signedWalHeaderSchema },
  'wal-stream': { title: 'stream.json: here is the log archive of a server', schema: walStreamSchema },
  'wal-config': { title: 'wal.json of a database host: where its log goes', schema: walConfigSchema },
  'archiver-request': {
    title: 'archivers/ID.request.json: an archiver asks to be vouched for',
    schema: archiverRequestSchema,
  },
  'vouched-archiver': {
    title: 'archivers/ID.INSTALLATION.json: an installation vouches for an archiver, signed',
    schema: vouchedArchiverSchema,
  },
  archiver: { title: 'archiver.json of a database host: signs what is archived', schema: archiverFileSchema },
  'drill-report': { title: 'What a drill has shown, signed', schema: signedDrillReportSchema },
}

/** File name → JSON Schema of every published document. */
export function publishedSchemas(): Record<string, object> {
  return Object.fromEntries(
    Object.entries(documents).map(([name, { title, schema }]) => {
      const { $schema, ...rest } = z.toJSONSchema(schema)
      return [`${name}.schema.json`, { $schema, title, ...rest }]
    }),
  )
}

if (import.meta.main) {
  const files = Object.entries(publishedSchemas()).map(([file, schema]) => {
    const path = join(directory, file)
    writeFileSync(path, `${JSON.stringify(schema, null, 2)}\n`)
    return path
  })
  execFileSync('npx', ['--no-install', 'biome', 'format', '--write', ...files], { stdio: 'inherit' })
}
