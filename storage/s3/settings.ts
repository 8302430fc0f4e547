/** Settings of an S3 destination, as stored. */
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import type { Json } from '../../model/types.ts'

const schema = z.strictObject({
  /** Absent: Amazon's own endpoint of the region. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  /** Absent: as the AWS SDK finds it (AWS_REGION, profile). */
  region: z
    .string()
    .regex(/^[a-z0-9-]{1,40}$/)
    .optional(),
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  pathStyle: z.boolean(),
})

export type S3Settings = z.infer<typeof schema>

/**
 * Fills in what was not said: with an endpoint of one's own, path style and region us-east-1 (which such stores accept).
 * Throws `request.invalid` naming the field.
 */
export function s3SettingsFrom(given: Record<string, unknown>): Record<string, Json> {
  const own = given.endpoint !== undefined
  const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const parsed = schema.safeParse({ pathStyle: own, ...(own ? { region: 'us-east-1' } : {}), ...known })
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    const field = issue?.path.join('.') || (issue && 'keys' in issue ? String(issue.keys) : 'settings')
    throw new HoldfastError(
      'request.invalid',
      `The destination's ${field} cannot be used: ${issue?.message}.`,
      {
        context: { field },
      },
    )
  }
  const { endpoint, region, pathStyle } = parsed.data
  if (endpoint !== undefined) {
    const url = new URL(endpoint)
    if (url.username || url.password || url.search || url.hash) {
      throw new HoldfastError(
        'request.invalid',
        "The destination's endpoint cannot be used: it must be scheme, host and port only, without credentials.",
        { context: { field: 'endpoint' } },
      )
    }
  }
  return {
    ...(endpoint === undefined ? {} : { endpoint: endpoint.replace(/\/+$/, '') }),
    ...(region === undefined ? {} : { region }),
    pathStyle,
  }
}

export const readS3Settings = (stored: Record<string, Json>): S3Settings =>
  schema.parse(s3SettingsFrom(stored))
