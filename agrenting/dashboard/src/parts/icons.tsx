/** The page's own small set of icons, drawn on 20 × 20 with the text's colour. They say nothing to screen readers. */

import type { ComponentChildren } from "preact";

const SHAPES = {
  market: <path d="M3 14.5 7.5 9l3.2 3L17 5.5M12.5 5.5H17V10" />,
  agents: (
    <path d="M5 8.5h10a1.5 1.5 0 0 1 1.5 1.5v5a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 15v-5A1.5 1.5 0 0 1 5 8.5ZM10 8.5V5M7.5 12.2v.6M12.5 12.2v.6M10 4.6v-.2" />
  ),
  inbox: (
    <path d="M3.5 11.5 5.6 4.8a1 1 0 0 1 1-.7h6.8a1 1 0 0 1 1 .7l2.1 6.7v3.4a1 1 0 0 1-1 1h-11a1 1 0 0 1-1-1zm0 0H7l1 2h4l1-2h3.500" />
  ),
  alerts: (
    <path d="M5.500 8.500a4.500 4.500 0 0 1 9 0c0 4 1.500 5 1.500 5H4s1.500-1 1.500-5ZM8.500 16.200a1.700 1.700 0 0 0 3 0" />
  ),
  keys: <path d="M11.200 8.800a3.600 3.600 0 1 1 1.500 1.500L9 14H7v2H4.500v-2.500zM13.700 6.300h.01" />,
  logout: <path d="M8 4H5a1 1 0 0 0-1 1v10a1 1 0 0 0 1 1h3M13 13l3-3-3-3M16 10H8" />,
  sun: (
    <path d="M10 6.500a3.500 3.500 0 1 1 0 7 3.500 3.500 0 0 1 0-7ZM10 2v1.500M10 16.500V18M4.300 4.300l1.100 1.100M14.600 14.600l1.100 1.100M2 10h1.500M16.500 10H18M4.300 15.700l1.100-1.100M14.600 5.400l1.100-1.100" />
  ),
  moon: <path d="M16.500 11.800A7 7 0 0 1 8.200 3.500a7 7 0 1 0 8.300 8.300Z" />,
  system: (
    <path d="M4 4.500h12a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1ZM7 16.500h6M10 13.500v3" />
  ),
  check: <path d="m4.500 10.500 3.500 3.500 7.500-8" />,
  close: <path d="m5.500 5.500 9 9M14.500 5.500l-9 9" />,
  warning: <path d="M10 3.500 17.500 16h-15zM10 8.500v3.500M10 14h.01" />,
  info: <path d="M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14ZM10 9.500V13M10 7h.01" />,
  copy: <path d="M7.500 7.500h8v8h-8zM12.500 7.500v-3h-8v8h3" />,
  arrow: <path d="M4 10h12M11.500 5.500 16 10l-4.500 4.500" />,
  back: <path d="M16 10H4M8.500 5.500 4 10l4.500 4.500" />,
  refresh: <path d="M16 10a6 6 0 1 1-1.800-4.300L16 7.500M16 3.500v4h-4" />,
  plug: <path d="M7.500 3v4M12.500 3v4M5.500 7h9v2.500a4.500 4.500 0 0 1-9 0zM10 14v3.500" />,
  chart: <path d="M3.500 3.500v13h13M7 13v-3M10.500 13V6.500M14 13V9" />,
  money: (
    <path d="M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14ZM12.300 7.600c-.5-.7-1.300-1-2.300-1-1.300 0-2.300.6-2.300 1.700 0 2.400 4.700 1 4.700 3.400 0 1.100-1 1.800-2.400 1.800-1.100 0-2-.4-2.500-1.200M10 5.500v1.100M10 13.500v1" />
  ),
  task: <path d="M4.500 3.500h11v13h-11zM7.500 7.500h5M7.500 10.500h5M7.500 13.500h3" />,
  deal: <path d="M3 7.500h9.500M9.500 4.500l3 3-3 3M17 12.500H7.500M10.500 9.500l-3 3 3 3" />,
  plus: <path d="M10 4.500v11M4.500 10h11" />,
} satisfies Record<string, ComponentChildren>;

export type IconName = keyof typeof SHAPES;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 20 20"
      width={size}
      height={size}
      fill="none"
      stroke="currentColor"
      stroke-width="1.6"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {SHAPES[name]}
    </svg>
  );
}

/** The product's mark. */
export function Mark({ size = 28 }: { size?: number }) {
  return (
    <svg class="mark" viewBox="0 0 32 32" width={size} height={size} aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" class="mark-ground" />
      <path d="M7 21.5 13.200 10.400a1.600 1.600 0 0 1 2.800 0l2 3.600" class="mark-one" />
      <path d="M25 10.500 18.800 21.600a1.600 1.600 0 0 1-2.800 0l-2-3.600" class="mark-two" />
    </svg>
  );
}
