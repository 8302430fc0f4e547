/** Our own small documents: manifests, key sidecars, markers, key files. */
import type { z } from 'zod'
import {
  deletedSchema,
  epochSchema,
  installationSchema,
  keyFileSchema,
  keySidecarSchema,
  lockedKeyFileSchema,
  recipientFileSchema,
  signedManifestSchema,
} from '../../model/manifest.ts'

const schemas: Record<string, { title: string; schema: z.ZodType }> = {
  'holdfast-manifest/1': { title: 'Holdfast manifest', schema: signedManifestSchema },
  'holdfast-keys/1': { title: 'Holdfast wrapped keys', schema: keySidecarSchema },
  'holdfast-deleted/1': { title: 'Holdfast marker of a deleted backup', schema: deletedSchema },
  'holdfast-installation/1': { title: 'Holdfast installation', schema: installationSchema },
  'holdfast-epoch/1': { title: 'Holdfast epoch', schema: epochSchema },
  'holdfast-key/1': { title: 'Holdfast key file', schema: keyFileSchema },
  'holdfast-locked-key/1': { title: 'Holdfast locked key file', schema: lockedKeyFileSchema },
  'holdfast-recipient/1': { title: 'Holdfast public key', schema: recipientFileSchema },
}

export interface Document {
  format: string
  title: string
  /** What it does not have as it should; undefined: nothing. */
  wrong: string | undefined
  words: string
}

/** undefined: not one of ours. A document that is cut is told by its first words. */
export function documentOf(text: string): Document | undefined {
  const [, format] = /^\s*\{[^{}]*?"format"\s*:\s*"(holdfast-[a-z-]+\/\d+)"/.exec(text) ??
    /"format"\s*:\s*"(holdfast-[a-z-]+\/\d+)"/.exec(text) ?? [undefined, undefined]
  if (format === undefined || !/^\s*\{/.test(text)) return undefined
  const known = schemas[format]
  const title = known?.title ?? `Holdfast document of the form ${format}`
  if (!known)
    return { format, title, wrong: undefined, words: 'of a version that this Holdfast does not know' }
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (error) {
    const said = error instanceof Error ? error.message : ''
    return { format, title, wrong: `It is no JSON: ${said}`, words: '' }
  }
  const parsed = known.schema.safeParse(content)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    return { format, title, wrong: `${issue?.path.join('.')}: ${issue?.message}`, words: '' }
  }
  return { format, title, wrong: undefined, words: wordsOf(content as Record<string, unknown>) }
}

function wordsOf(content: Record<string, unknown>): string {
  const manifest = signedManifestSchema.safeParse(content)
  if (manifest.success) {
    const { backupId, connection, engine, toolFormat, artifacts } = manifest.data
    return `of backup ${backupId} of ${connection} (${engine}, ${toolFormat}), ${artifacts.length} artifact${artifacts.length === 1 ? '' : 's'}; its signature was not checked`
  }
  const name = content.name ?? content.backupId ?? content.installationId
  return typeof name === 'string' ? `of ${name}` : ''
}
