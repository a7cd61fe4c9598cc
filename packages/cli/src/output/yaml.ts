/** Settings as YAML: nested maps of plain values, which is all that settings are made of. */

type Scalar = string | number | boolean | null;
export type SettingsMap = { readonly [key: string]: Scalar | SettingsMap };

/** Text that YAML would read as the same text without quotes. */
const PLAIN_PATTERN = /^[A-Za-z_./][A-Za-z0-9_./-]*$/;
const RESERVED_PATTERN = /^(?:true|false|null|yes|no|on|off|y|n|~)$/i;

export function yamlDocument(settings: SettingsMap, indent = ''): string {
  return Object.entries(settings)
    .map(([key, value]) => {
      if (typeof value === 'object' && value !== null) return `${indent}${key}:\n${yamlDocument(value, `${indent}  `)}`;
      return `${indent}${key}: ${scalar(value)}\n`;
    })
    .join('');
}

/** JSON's quoted text is YAML's. */
function scalar(value: Scalar): string {
  if (value === Infinity) return 'unlimited';
  if (typeof value !== 'string') return String(value);
  return PLAIN_PATTERN.test(value) && !RESERVED_PATTERN.test(value) ? value : JSON.stringify(value);
}
