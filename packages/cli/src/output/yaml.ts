/** Settings as YAML: nested maps of plain values, which is all that settings are made of. */

type Scalar = string | number | boolean | null;
export type SettingsMap = { readonly [key: string]: Scalar | SettingsMap };

/** Text that YAML would read as the same text without quotes. */
const PLAIN_PATTERN = /^[A-Za-z_./][A-Za-z0-9_./-]*$/;
const RESERVED_PATTERN = /^(?:true|false|null|yes|no|on|off|y|n|~)$/i;

/** @param remark what a comment behind the setting at a dotted path says; undefined for none */
export function yamlDocument(
  settings: SettingsMap,
  remark: (path: string) => string | undefined = () => undefined,
): string {
  return lines(settings, '', '', remark).join('');
}

function lines(
  settings: SettingsMap,
  indent: string,
  prefix: string,
  remark: (path: string) => string | undefined,
): string[] {
  return Object.entries(settings).flatMap(([key, value]) => {
    const path = `${prefix}${key}`;
    if (typeof value === 'object' && value !== null)
      return [`${indent}${key}:\n`, ...lines(value, `${indent}  `, `${path}.`, remark)];
    const said = remark(path);
    return [`${indent}${key}: ${scalar(value)}${said === undefined ? '' : `  # ${said}`}\n`];
  });
}

/** JSON's quoted text is YAML's. */
function scalar(value: Scalar): string {
  if (value === Infinity) return 'unlimited';
  if (typeof value !== 'string') return String(value);
  return PLAIN_PATTERN.test(value) && !RESERVED_PATTERN.test(value) ? value : JSON.stringify(value);
}
