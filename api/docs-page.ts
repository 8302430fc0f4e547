/** `/docs`: the description of the API as one page. No script, nothing from elsewhere; the style is allowed by its hash alone. */
import { createHash } from 'node:crypto'

/** What is shown of an OpenAPI document. */
interface ApiDescription {
  info: { title: string; version: string; description?: string }
  paths?: Record<string, Record<string, Operation>>
}
interface Operation {
  summary?: string
  description?: string
  tags?: string[]
  'x-role'?: string
  parameters?: { name: string; in: string; required?: boolean; schema?: Schema }[]
  requestBody?: { required?: boolean; content?: Record<string, { schema?: Schema }> }
  responses?: Record<string, { description?: string; content?: Record<string, { schema?: Schema }> }>
}
interface Schema {
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean | Schema
  items?: Schema
  prefixItems?: Schema[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
}

const style = `
:root{color-scheme:light dark;--line:#8884;--dim:#888;--get:#2a7;--post:#27c;--other:#a62}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1rem}
h1{margin-bottom:0}h2{margin-top:2rem;border-bottom:1px solid var(--line)}
nav a{margin-right:.8rem}details{border:1px solid var(--line);border-radius:.3rem;margin:.4rem 0}
summary{cursor:pointer;padding:.4rem .6rem}details>div{padding:0 .8rem .6rem}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{overflow-x:auto;background:#8881;padding:.6rem;border-radius:.3rem}
.method{display:inline-block;min-width:4.2rem;font-weight:bold}.get{color:var(--get)}.post{color:var(--post)}
.put,.patch,.delete{color:var(--other)}.role{float:right;color:var(--dim)}h3{margin:.8rem 0 .2rem;font-size:1rem}
`

export const docsHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
}

export function docsPage({ info, paths = {} }: ApiDescription): string {
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
  const tags = [...new Set(routes.map(({ operation }) => operation.tags?.[0] ?? 'other'))].sort()
  const sections = tags.map(tag => {
    const own = routes.filter(({ operation }) => (operation.tags?.[0] ?? 'other') === tag)
    return `<h2 id="${escaped(tag)}">${escaped(tag)}</h2>\n${own.map(routeOf).join('\n')}`
  })
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(info.title)} API</title><style>${style}</style></head>
<body>
<h1>${escaped(info.title)} API</h1>
<p>${escaped(info.version)} · ${escaped(info.description ?? '')} · <a href="/openapi.json">openapi.json</a></p>
<nav>${tags.map(tag => `<a href="#${escaped(tag)}">${escaped(tag)}</a>`).join('')}</nav>
${sections.join('\n')}
</body>
</html>
`
}

function routeOf({
  path,
  method,
  operation,
}: {
  path: string
  method: string
  operation: Operation
}): string {
  const { summary = '', description, parameters = [], requestBody, responses = {} } = operation
  const role =
    operation['x-role'] === undefined || operation['x-role'] === 'none' ? 'everybody' : operation['x-role']
  const parts: string[] = []
  if (description) parts.push(`<p>${escaped(description)}</p>`)
  if (parameters.length > 0) {
    const lines = parameters.map(
      one => `${one.name}${one.required ? '' : '?'} (${one.in}): ${typeText(one.schema ?? {}, 0)}`,
    )
    parts.push(`<h3>Parameters</h3><pre>${escaped(lines.join('\n'))}</pre>`)
  }
  const asked = schemaIn(requestBody?.content)
  if (asked) parts.push(`<h3>Body${requestBody?.required ? '' : ' (may be left out)'}</h3>${block(asked)}`)
  for (const [status, answer] of Object.entries(responses)) {
    const what = status === 'default' ? 'Refusals' : status
    const schema = schemaIn(answer.content)
    parts.push(
      `<h3>${escaped(what)}: ${escaped(answer.description ?? '')}</h3>${status === 'default' || !schema ? '' : block(schema)}`,
    )
  }
  return `<details><summary><span class="role">${escaped(role)}</span><span class="method ${escaped(method)}">${escaped(method.toUpperCase())}</span> <code>${escaped(path)}</code> ${escaped(summary)}</summary><div>${parts.join('\n')}</div></details>`
}

const schemaIn = (content: Record<string, { schema?: Schema }> | undefined): Schema | undefined =>
  Object.values(content ?? {})[0]?.schema

const block = (schema: Schema): string => `<pre>${escaped(typeText(schema, 0))}</pre>`

/** A schema as one would write its type. */
function typeText(schema: Schema, depth: number): string {
  const either = schema.anyOf ?? schema.oneOf
  if (either) return either.map(one => typeText(one, depth)).join(' | ')
  if (schema.allOf) return schema.allOf.map(one => typeText(one, depth)).join(' & ')
  if (schema.enum) return schema.enum.map(value => JSON.stringify(value)).join(' | ')
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  const types = [schema.type ?? 'anything'].flat()
  return types.map(type => plainText(type, schema, depth)).join(' | ')
}

function plainText(type: string, schema: Schema, depth: number): string {
  if (type === 'array') {
    if (schema.prefixItems) return `[${schema.prefixItems.map(one => typeText(one, depth)).join(', ')}]`
    return `[${typeText(schema.items ?? {}, depth)}, …]`
  }
  if (type !== 'object') return type
  const pad = '  '.repeat(depth + 1)
  const lines = Object.entries(schema.properties ?? {}).map(
    ([name, inner]) =>
      `${pad}${name}${schema.required?.includes(name) ? '' : '?'}: ${typeText(inner, depth + 1)}`,
  )
  if (typeof schema.additionalProperties === 'object') {
    lines.push(`${pad}[name]: ${typeText(schema.additionalProperties, depth + 1)}`)
  }
  return lines.length === 0 ? '{}' : `{\n${lines.join('\n')}\n${'  '.repeat(depth)}}`
}

const escaped = (text: string): string =>
  text.replace(/[&<>"']/g, character => `&#${character.codePointAt(0)};`)
